"""QEMU and virtiofsd of Debian 13 in a folder, for hosts with versions too old for virtiofs."""

import fcntl
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from b2d.image.build import mirror

SUITE = "trixie"
PACKAGES = ("qemu-system-x86", "qemu-utils", "virtiofsd")
PROGRAMS = {
    "qemu-system-x86_64": "usr/bin/qemu-system-x86_64",
    "qemu-img": "usr/bin/qemu-img",
    "virtiofsd": "usr/libexec/virtiofsd",
}
# with the C library of their own Debian; QEMU looks for its data where it was installed
STARTED = """\
#!/bin/sh
export QEMU_MODULE_DIR={root}/usr/lib/x86_64-linux-gnu/qemu
exec {root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu {root}/{program}{more} "$@"
"""


def ensure_programs(cache: Path) -> Path:
    """Return the folder of the programs, to be put first in PATH; it is created in ten seconds when missing."""
    folder = cache / f"qemu-{SUITE}"
    with (cache / "qemu.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / "bin").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _unpack(folder)
            _write_starters(folder)
    return folder / "bin"


def _unpack(folder: Path) -> None:
    """Unpack packages and their dependencies, resolved and verified by apt with an empty package status."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (url,) = [own.bases[mirror.MAIN] for own in mirror.from_apt(mirror.APT)[:1]]
    (folder / "sources.list").write_text(f"deb {url} {SUITE} main\n")
    apart = {
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache::archives": folder / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Acquire::Languages": "none",
        "Acquire::Retries": 5,
    }
    apt = ["apt-get", "-q", *(word for name, value in apart.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt, "update"])
    _run([*apt, "--yes", "--no-install-recommends", "--download-only", "install", *PACKAGES])
    for package in (folder / "archives").glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(folder / "root")])
    shutil.rmtree(folder / "archives")
    shutil.rmtree(folder / "lists")


def _write_starters(folder: Path) -> None:
    root, new = folder / "root", folder / "bin.new"
    new.mkdir()
    for name, program in PROGRAMS.items():
        more = f" -L {root}/usr/share/qemu -L {root}/usr/share/seabios" if name.startswith("qemu-system") else ""
        (new / name).write_text(STARTED.format(root=root, program=program, more=more))
        (new / name).chmod(0o755)
    new.rename(folder / "bin")


def _run(command: Sequence[str]) -> None:
    completed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert completed.returncode == 0, completed.stdout
