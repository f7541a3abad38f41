"""How what b2d needs of this host is called by each package manager, and how it is installed."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from b2d.errors import B2dError
from b2d.host import processes

INSTALL_TIMEOUT_S = 1800.0
LOOK_UP_TIMEOUT_S = 30.0
PRIVILEGE_PROGRAMS = ("sudo", "doas")  # what a user who is not root installs with

QEMU, QEMU_IMG, SQUASHFS, DOCKER, VIRTIOFSD = "qemu", "qemu-img", "mksquashfs", "docker", "virtiofsd"


@dataclass(frozen=True, slots=True)
class PackageManager:
    """One row of the table; a need that it has no package for is not in `packages`."""

    program: str
    install: tuple[str, ...]  # its arguments before the packages
    packages: dict[str, str]
    refresh: tuple[str, ...] = ()  # its arguments to learn what there is
    needs_root: bool = True


# Without what is only recommended: qemu-system-x86 itself depends on the firmware that the machine needs
# (seabios, and ipxe-qemu for the network card), and recommends a graphical surface that it does not need.
MANAGERS = (
    PackageManager(
        "apt-get",
        ("install", "-y", "--no-install-recommends"),
        {
            QEMU: "qemu-system-x86",
            QEMU_IMG: "qemu-utils",
            SQUASHFS: "squashfs-tools",
            DOCKER: "docker-cli",
            VIRTIOFSD: "virtiofsd",
        },
        refresh=("update",),
    ),
    PackageManager(
        "dnf",
        ("install", "-y"),
        {
            QEMU: "qemu-system-x86-core",
            QEMU_IMG: "qemu-img",
            SQUASHFS: "squashfs-tools",
            DOCKER: "docker-cli",
            VIRTIOFSD: "virtiofsd",
        },
    ),
    PackageManager(
        "pacman",
        ("-S", "--needed", "--noconfirm"),
        {
            QEMU: "qemu-system-x86",
            QEMU_IMG: "qemu-img",
            SQUASHFS: "squashfs-tools",
            DOCKER: "docker",
            VIRTIOFSD: "virtiofsd",
        },
    ),
    PackageManager(
        "zypper",
        ("--non-interactive", "install", "--no-recommends"),
        {
            QEMU: "qemu-x86",
            QEMU_IMG: "qemu-tools",
            SQUASHFS: "squashfs",
            DOCKER: "docker",
            VIRTIOFSD: "virtiofsd",
        },
    ),
    PackageManager(
        "apk",
        ("add",),
        {
            QEMU: "qemu-system-x86_64",
            QEMU_IMG: "qemu-img",
            SQUASHFS: "squashfs-tools",
            DOCKER: "docker-cli",
            VIRTIOFSD: "virtiofsd",
        },
    ),
    PackageManager(
        "brew",
        ("install",),
        {QEMU: "qemu", QEMU_IMG: "qemu", SQUASHFS: "squashfs", DOCKER: "docker"},
        needs_root=False,
    ),
    PackageManager(
        "winget",
        ("install", "--exact", "--accept-package-agreements", "--accept-source-agreements", "--id"),
        {
            QEMU: "SoftwareFreedomConservancy.QEMU",
            QEMU_IMG: "SoftwareFreedomConservancy.QEMU",
            DOCKER: "Docker.DockerCLI",
        },
        needs_root=False,
    ),
)
DEBIAN_12_DOCKER = "docker.io"  # until Debian 13 the client came with the daemon alone

Which = Callable[[str], str | None]
Run = Callable[[Sequence[str], float], bytes]


def _run(arguments: Sequence[str], timeout_s: float) -> bytes:
    ours = os.umask(0o022)  # what is installed is for everybody
    try:
        return processes.check(arguments, timeout_s=timeout_s)
    finally:
        os.umask(ours)


@dataclass(frozen=True, slots=True)
class Installer:
    """The package manager of this host, and whether it may be used."""

    which: Which = shutil.which
    run: Run = _run
    is_root: bool = not hasattr(os, "geteuid") or os.geteuid() == 0

    def manager(self) -> PackageManager | None:
        """The one of this host, None where none of the table is here."""
        return next((manager for manager in MANAGERS if self.which(manager.program)), None)

    def commands(self, needs: Sequence[str]) -> list[list[str]]:
        """What installs `needs`, to be typed one after the other; empty where nobody knows."""
        manager = self.manager()
        if manager is None:
            return []
        names = list(dict.fromkeys(self._name(manager, need) for need in needs if need in manager.packages))
        if not names:
            return []
        one_by_one = manager.program == "winget"  # --id takes one
        groups = [[name] for name in names] if one_by_one else [names]
        tails = [list(manager.refresh)] if manager.refresh else []
        tails += [[*manager.install, *group] for group in groups]
        return [[*self._raiser(manager), manager.program, *tail] for tail in tails]

    def line(self, needs: Sequence[str]) -> str:
        """The same as one line to paste."""
        import shlex

        return " && ".join(shlex.join(command) for command in self.commands(needs))

    def install(self, needs: Sequence[str]) -> None:
        """Install `needs`. Raises B2dError, with the line to type where b2d cannot do it."""
        line = self.line(needs)
        if not line:
            raise B2dError(f"nobody knows here how to install {', '.join(needs)}", hint="install it by hand")
        manager = self.manager()
        if manager and manager.needs_root and not self.is_root and not self._raiser(manager):
            raise B2dError("only root can install packages here", hint=f"as root: {line}")
        for command in self.commands(needs):
            try:
                self.run(command, INSTALL_TIMEOUT_S)
            except B2dError as error:
                raise B2dError(error.message, hint=line, details=error.details) from error

    def _raiser(self, manager: PackageManager) -> list[str]:
        if self.is_root or not manager.needs_root:
            return []
        return next(([raiser] for raiser in PRIVILEGE_PROGRAMS if self.which(raiser)), [])

    def _name(self, manager: PackageManager, need: str) -> str:
        name = manager.packages[need]
        if manager.program != "apt-get" or need != DOCKER:
            return name
        try:
            found = self.run(["apt-cache", "policy", name], LOOK_UP_TIMEOUT_S)
        except B2dError:
            return DEBIAN_12_DOCKER
        return name if b"Candidate:" in found and b"(none)" not in found else DEBIAN_12_DOCKER
