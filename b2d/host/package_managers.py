"""Package managers: the names of the packages that b2d needs, and their installation."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from b2d.errors import B2dError
from b2d.host import processes

INSTALL_TIMEOUT_S = 1800.0
LOOK_UP_TIMEOUT_S = 30.0
PRIVILEGE_PROGRAMS = ("sudo", "doas")  # programs that run a command as root

QEMU, QEMU_IMG, SQUASHFS, DOCKER, VIRTIOFSD = "qemu", "qemu-img", "mksquashfs", "docker", "virtiofsd"


@dataclass(frozen=True, slots=True)
class PackageManager:
    """A package manager; `packages` has only the needs for which it has a package."""

    program: str
    install: tuple[str, ...]  # arguments before the packages
    packages: dict[str, str]
    refresh: tuple[str, ...] = ()  # arguments to update the package lists
    needs_root: bool = True


# Without recommended packages: qemu-system-x86 depends on the firmware that a machine needs (seabios, and ipxe-qemu for
# the network card), and recommends a graphical interface that it does not need.
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
DEBIAN_12_DOCKER = "docker.io"  # before Debian 13 the client was packaged only with the daemon

Which = Callable[[str], str | None]
Run = Callable[[Sequence[str], float], bytes]


def _run(arguments: Sequence[str], timeout_s: float) -> bytes:
    previous = os.umask(0o022)  # installed files are for all users
    try:
        return processes.check(arguments, timeout_s=timeout_s)
    finally:
        os.umask(previous)


@dataclass(frozen=True, slots=True)
class Installer:
    """The package manager of this host, and the right to use it."""

    which: Which = shutil.which
    run: Run = _run
    is_root: bool = not hasattr(os, "geteuid") or os.geteuid() == 0

    def manager(self) -> PackageManager | None:
        """Return this host's package manager, None for an unknown one."""
        return next((manager for manager in MANAGERS if self.which(manager.program)), None)

    def commands(self, needs: Sequence[str]) -> list[list[str]]:
        """Return the commands that install `needs`, in order; empty where unknown."""
        manager = self.manager()
        if manager is None:
            return []
        names = list(dict.fromkeys(self._package_name(manager, need) for need in needs if need in manager.packages))
        if not names:
            return []
        is_single = manager.program == "winget"  # --id accepts one package
        groups = [[name] for name in names] if is_single else [names]
        tails = [list(manager.refresh)] if manager.refresh else []
        tails += [[*manager.install, *group] for group in groups]
        return [[*self._privilege_prefix(manager), manager.program, *tail] for tail in tails]

    def line(self, needs: Sequence[str]) -> str:
        """Return the commands as one line to paste."""
        import shlex

        return " && ".join(shlex.join(command) for command in self.commands(needs))

    def install(self, needs: Sequence[str]) -> None:
        """Install `needs`. Raises B2dError with the line to type where b2d cannot install."""
        line = self.line(needs)
        if not line:
            raise B2dError(
                f"{', '.join(needs)} cannot be installed automatically on this host", hint="install it by hand"
            )
        manager = self.manager()
        if manager and manager.needs_root and not self.is_root and not self._privilege_prefix(manager):
            raise B2dError("only root can install packages on this host", hint=f"as root: {line}")
        for command in self.commands(needs):
            try:
                self.run(command, INSTALL_TIMEOUT_S)
            except B2dError as error:
                raise B2dError(error.message, hint=line, details=error.details) from error

    def _privilege_prefix(self, manager: PackageManager) -> list[str]:
        if self.is_root or not manager.needs_root:
            return []
        return next(([program] for program in PRIVILEGE_PROGRAMS if self.which(program)), [])

    def _package_name(self, manager: PackageManager, need: str) -> str:
        name = manager.packages[need]
        if manager.program != "apt-get" or need != DOCKER:
            return name
        try:
            policy = self.run(["apt-cache", "policy", name], LOOK_UP_TIMEOUT_S)
        except B2dError:
            return DEBIAN_12_DOCKER
        return name if b"Candidate:" in policy and b"(none)" not in policy else DEBIAN_12_DOCKER
