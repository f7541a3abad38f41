"""A lab for a real VirtualBox on a Debian host whose kernel may not load its driver: a Debian sid in a folder.

    python -m tests.support.virtualbox_lab create [DIR]
    python -m tests.support.virtualbox_lab enter [DIR] [-b HOST[:INSIDE]]... [-- COMMAND...]
    python -m tests.support.virtualbox_lab clean [DIR]

VirtualBox interprets the instructions of the machines in it. A command in the lab has its own processes, mounts and
network (loopback, and nothing else): when it ends, so does all that it started. docs/virtualbox.md has the details.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from b2d.image.build import mirror
from tests.support.paths import ROOT

HERE = Path(__file__).resolve().parent
DEFAULT = Path.home() / ".cache" / "b2d-tests" / "vbox"
CHECKOUT = "/b2d"  # the path of this checkout in the lab
PYTHON = "/opt/venv/bin/python"
FRONT_END = "usr/lib/virtualbox/VBoxHeadless"
HOST_TOOLS = {"debootstrap": "debootstrap", "cc": "gcc", "dpkg-deb": "dpkg", "unshare": "util-linux"}
PACKAGES = [
    "systemd-standalone-sysusers",  # the part of systemd that VirtualBox needs
    "virtualbox",
    "python3-venv",
    "docker-cli",
    "squashfs-tools",  # images are stored uncompressed
    "qemu-utils",  # a machine with snapshots is converted for QEMU
    "openssh-client",
    "binutils",  # assembles the tests' small guest
    "iproute2",
    "procps",
]
ENVIRONMENT = {
    "PATH": "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_ROOT_USER_ACTION": "ignore",
    "B2D_TEST_LAB": "yes",  # machines start in the lab without the driver
}
APT = """\
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "5";
APT::Install-Recommends "false";
Dpkg::Use-Pty "0";
"""
# Processes of the lab end with it; only they see the mounts. $1: the lab, $2: the working directory in it.
ENTER = """\
mount --make-rprivate /
mount --rbind /dev "$1/dev" && mount -t tmpfs tmpfs "$1/dev/shm"
mount -t proc proc "$1/proc" && mount --rbind /sys "$1/sys"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp" && mount -t tmpfs -o mode=755 tmpfs "$1/run"
lab=$1 folder=$2
shift 2
while [ "$1" != -- ]; do
    mkdir -p "$lab$2" && mount --rbind "$1" "$lab$2"
    shift 2
done
shift
ip link set lo up 2>/dev/null
exec chroot "$lab" sh -c 'cd "$1" && shift && "$@"; exit $?' sh "$folder" "$@" # the shell stays: it is their init
"""


class LabError(Exception):
    """An obstacle to the creation of the lab."""


@dataclass(frozen=True)
class Lab:
    """A lab in its folder, which is safe to delete."""

    folder: Path

    @property
    def ready(self) -> bool:
        return self._mark.exists() and self._mark.read_text() == _inventory()

    @property
    def _mark(self) -> Path:
        return self.folder / "b2d-lab"

    def create(self) -> None:
        """Create the lab or its missing parts, in about a minute. Raises LabError."""
        with self._alone():
            if self.ready:
                return
            _check_host()
            if not (self.folder / "etc/apt/apt.conf.d/90b2d").exists():  # the last file of the first step
                self._debootstrap()
            self._virtualbox()
            self._front_end()
            self._venv()
            self._mark.write_text(_inventory())

    def command(
        self, arguments: Sequence[str], binds: Sequence[tuple[Path, str]] = (), *, online: bool = False
    ) -> list[str]:
        """Return the command line of this host that runs `arguments` inside the lab, in the checkout."""
        pairs = [part for host, inside in [(ROOT, CHECKOUT), *binds] for part in (str(host), inside)]
        (self.folder / CHECKOUT.strip("/")).mkdir(exist_ok=True)
        network = [] if online else ["--net"]
        return [
            *("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", *network),
            *("sh", "-euc", ENTER, "sh", str(self.folder), CHECKOUT, *pairs, "--", *arguments),
        ]

    def run(self, *arguments: str) -> None:
        """Run a command in the lab with this host's network; it must succeed. Raises LabError."""
        _run(self.command(arguments, online=True), ENVIRONMENT)

    def clean(self) -> None:
        """Delete the lab."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _debootstrap(self) -> None:
        log("debootstrap")
        self.clean()
        url = _mirror()
        _run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "sid", str(self.folder), url])
        (self.folder / "etc/apt/sources.list").write_text(f"deb {url} sid main contrib\n")
        policy = self.folder / "usr/sbin/policy-rc.d"  # prevents packages from starting services
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        shutil.copy("/etc/resolv.conf", self.folder / "etc/resolv.conf")
        self._authorities()
        (self.folder / "etc/apt/apt.conf.d/90b2d").write_text(APT)

    def _virtualbox(self) -> None:
        log("VirtualBox")
        with TemporaryDirectory() as work:  # replaces the kernel modules' source, dkms and a compiler
            control = Path(work) / "package" / "DEBIAN" / "control"
            control.parent.mkdir(parents=True)
            control.write_text(
                "Package: no-modules\nVersion: 1\nArchitecture: all\nMaintainer: b2d <root@localhost>\n"
                "Provides: virtualbox-modules\nDescription: VirtualBox without its driver\n"
            )
            control.parent.chmod(0o755)
            package = self.folder / "var" / "no-modules.deb"
            _run(["dpkg-deb", "--root-owner-group", "-b", str(Path(work) / "package"), str(package)])
        self.run("apt-get", "-q", "update")
        self.run("apt-get", "-q", "-y", "install", "/var/no-modules.deb", *PACKAGES)
        self.run("apt-get", "clean")
        self._authorities()

    def _front_end(self) -> None:
        log("the front end without a driver")
        diverted = f"/{FRONT_END}.distrib"
        if not (self.folder / diverted.strip("/")).exists():
            self.run("dpkg-divert", "--local", "--rename", "--divert", diverted, "--add", f"/{FRONT_END}")
        built = self.folder / f"{FRONT_END}.new"
        _run(["cc", "-O2", "-Wall", "-o", str(built), str(HERE / "headless.c"), "-ldl"])
        built.replace(self.folder / FRONT_END)

    def _venv(self) -> None:
        log("b2d and what its tests need")
        if not (self.folder / PYTHON.strip("/")).exists():
            self.run("python3", "-m", "venv", "/opt/venv")
        self.run(PYTHON, "-m", "pip", "install", "-q", "-e", f"{CHECKOUT}[test]")

    def _authorities(self) -> None:
        """Copy this host's CAs, as there may be a proxy in between. A package writes Debian's own."""
        bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
        if bundle.exists():
            shutil.copy(bundle, self.folder / "etc/ssl/certs/ca-certificates.crt")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f"{self.folder.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def log(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


def _inventory() -> str:
    """Return a text that changes with the inputs of the lab."""
    return "\n".join([(HERE / "headless.c").read_text(), (ROOT / "pyproject.toml").read_text(), *PACKAGES])


def _check_host() -> None:
    if os.geteuid() != 0:
        raise LabError("only root can make and enter the lab")
    missing = sorted(package for tool, package in HOST_TOOLS.items() if shutil.which(tool) is None)
    if missing:
        raise LabError(f"missing on this host: apt-get install {' '.join(missing)}")


def _mirror() -> str:
    own = mirror.from_apt(mirror.APT)
    if not own:
        raise LabError("apt of this host names no Debian mirror")
    return own[0].bases[mirror.MAIN]


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    completed = subprocess.run(
        command,
        env=None if environment is None else environment | proxies,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if completed.returncode != 0:
        last = "\n".join(completed.stdout.splitlines()[-15:])
        raise LabError(f"{command[0]} failed:\n{last}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.virtualbox_lab", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("verb", choices=["create", "enter", "clean"])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("-b", "--bind", action="append", default=[], metavar="HOST[:INSIDE]")
    words = sys.argv[1:]
    typed = words[words.index("--") + 1 :] if "--" in words else ["bash"]
    chosen = parser.parse_args(words[: words.index("--")] if "--" in words else words)
    lab = Lab(chosen.folder.absolute())
    try:
        if chosen.verb == "clean":
            lab.clean()
            return 0
        lab.create()
        if chosen.verb == "create":
            log(f"ready in {lab.folder}")
            return 0
        pairs = [(Path(host).absolute(), inside or host) for host, _, inside in (b.partition(":") for b in chosen.bind)]
        terminal = {"TERM": os.environ.get("TERM", "dumb")}
        return subprocess.run(lab.command(typed, pairs), env=ENVIRONMENT | terminal, check=False).returncode
    except LabError as error:
        log(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
