"""The yardstick: a conventional Debian 13 VM (systemd, docker.io, openssh-server), built here and started by QEMU.

It is given what b2d gives its own machine: the same QEMU settings, a kernel that QEMU loads itself, TLS on 2376.
"""

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from b2d.docker.client import DockerApi
from b2d.guest.readiness import ping
from b2d.image.build.mirror import MAIN, from_apt
from b2d.paths import MachinePaths

PACKAGES = "systemd,systemd-sysv,udev,dbus,linux-image-cloud-amd64,docker.io,openssh-server,iproute2,ca-certificates"
DISK_SIZE = "20G"
ADDRESS, SSH_PORT, DOCKER_PORT = "127.0.0.1", 20022, 22376  # every certificate of b2d names this address
NETWORK = "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n"
DROP_IN = """[Service]
ExecStart=
ExecStart=/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0:2376 --tlsverify --tlscacert /etc/docker/ca.pem \
--tlscert /etc/docker/server.pem --tlskey /etc/docker/server-key.pem --containerd=/run/containerd/containerd.sock
"""
LIMIT_S = 180.0


@dataclass(frozen=True, slots=True)
class Yardstick:
    """The VM after its installation; `folder` holds its disk, kernel and initrd."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk.qcow2"

    @property
    def pid(self) -> Path:
        return self.folder / "pid"

    def build(self, paths: MachinePaths) -> None:
        """Install a tree and make a disk of it, unless that was done before; `paths` supply the TLS certificates.

        Needs root, debootstrap and a Debian mirror; takes minutes.
        """
        if self.disk.exists():
            return
        tree = self.folder / "tree"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        mirror, *_ = from_apt(Path("/etc/apt"))
        _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", str(tree), mirror.bases[MAIN])
        self._configure(tree, paths)
        for name in ("vmlinuz", "initrd.img"):
            (kernel,) = (tree / "boot").glob(f"{name}-*")
            shutil.copy(kernel, self.folder / name)
        raw = self.folder / "disk.raw"
        _run("mkfs.ext4", "-q", "-L", "root", "-d", str(tree), str(raw), DISK_SIZE)
        _run("qemu-img", "convert", "-O", "qcow2", str(raw), str(self.disk))
        raw.unlink()
        shutil.rmtree(tree)

    def _configure(self, tree: Path, paths: MachinePaths) -> None:
        (tree / "etc/fstab").write_text("LABEL=root / ext4 defaults 0 1\n")
        (tree / "etc/hostname").write_text("yardstick\n")
        (tree / "etc/systemd/network/lan.network").write_text(NETWORK)
        drop_in = tree / "etc/systemd/system/docker.service.d/tls.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(DROP_IN)
        (tree / "etc/docker").mkdir(exist_ok=True)
        shutil.copy(paths.certs / "ca.pem", tree / "etc/docker/ca.pem")
        for name in ("server.pem", "server-key.pem"):
            shutil.copy(paths.authority / name, tree / "etc/docker" / name)
        _run("chroot", str(tree), "systemctl", "enable", "systemd-networkd", "docker", "ssh")

    def up(self, hardware: list[str], certs: Path) -> float:
        """Start the stopped VM, wait until Docker answers and return the seconds."""
        begin = time.monotonic()
        forwards = f"hostfwd=tcp:{ADDRESS}:{SSH_PORT}-:22,hostfwd=tcp:{ADDRESS}:{DOCKER_PORT}-:2376"
        command = [
            "qemu-system-x86_64",
            *hardware,
            *("-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd.img")),
            *("-append", "root=LABEL=root ro quiet console=ttyS0"),
            *("-drive", f"file={self.disk},if=virtio,format=qcow2"),
            *("-netdev", f"user,id=n0,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=n0"),
            *("-serial", f"file:{self.folder / 'serial.log'}", "-qmp", f"unix:{self.folder / 'qmp'},server,nowait"),
            *("-display", "none", "-daemonize", "-pidfile", str(self.pid)),
        ]
        _run(*command)
        while ping(DockerApi(ADDRESS, DOCKER_PORT, certs), 5.0) is None:
            if time.monotonic() - begin > LIMIT_S:
                raise TimeoutError(f"the yardstick did not answer: {self.folder / 'serial.log'}")
            time.sleep(0.1)
        return time.monotonic() - begin

    def stop(self) -> float:
        """Press the power button, wait until the VM is off and return the seconds."""
        from b2d.drivers.qemu.qmp import Qmp

        begin = time.monotonic()
        with Qmp(self.folder / "qmp") as qmp:
            qmp.execute("system_powerdown")
        while self.pid.exists():
            if time.monotonic() - begin > LIMIT_S:
                raise TimeoutError("the yardstick did not power off")
            time.sleep(0.05)
        return time.monotonic() - begin


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=1800)
