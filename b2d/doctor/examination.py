"""An examination: this host, this home and its machines, looked at piece by piece; each finding says what helps."""

import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from b2d.doctor import docker_environment, home_folder, hypervisors, leftovers, network, programs
from b2d.doctor.finding import Finding, Verdict, warning
from b2d.doctor.hypervisors import Hardware
from b2d.doctor.machines import MachineChecks, MachineReport
from b2d.doctor.programs import Requirement
from b2d.errors import B2dError, ConfigError
from b2d.host import seccomp
from b2d.host.package_managers import QEMU_IMG, SQUASHFS, Installer
from b2d.machine_store.store import MachineStore
from b2d.models import Image, MachineSpec
from b2d.paths import Home

__all__ = ["Examination", "Finding", "MachineChecks", "Verdict"]

NETWORK_DRIVER = Path("/dev/vboxnetctl")


@dataclass(frozen=True, slots=True)
class Examination:
    """What doctor asks of the outside; `mirror`, `accelerator` (name and reason) and `virtualbox` (version and place)
    may raise B2dError."""

    home: Home
    mirror: Callable[[], str]
    accelerator: Callable[[], tuple[str, str]]
    virtualbox: Callable[[], str]
    ward: MachineChecks
    spare_images: Callable[[Collection[str]], list[Image]]  # but for those that are used
    virtiofsd: Callable[[], tuple[tuple[int, int], str]]  # version and path
    hypervisor: str = "qemu"  # that a new machine would get
    unread: ConfigError | None = None  # why the settings are not those that a person wrote
    namespaces: Callable[[], bool] = lambda: True  # whether a virtiofsd can be kept to its folder
    installer: Installer = field(default_factory=Installer)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    python: tuple[int, int] = sys.version_info[:2]
    platform: str = sys.platform
    hardware: Hardware = field(default_factory=Hardware)
    network_driver: Path = NETWORK_DRIVER
    hyper_v: Callable[[], bool] = hypervisors.windows_hypervisor
    file_system: Callable[[Path], str] = home_folder.kind_of

    def findings(self) -> Iterator[Finding]:
        """One after the other, since some take a moment."""
        seen, trouble = self._seen()
        if self.unread is not None:
            fix = "b2d config edit" if self.home.config.is_file() else ""
            yield Finding("settings", Verdict.BAD, self.unread.message, fix)
        yield from self._host()
        yield from self._home(None if trouble else [one.spec for one in seen])
        api = next((one.ping.api_version for one in seen if one.ping is not None), "")
        yield programs.docker(self.installer, self.environment, api)
        addresses = [one.spec.address for one in seen if one.spec is not None]
        yield network.proxies(self.environment, addresses)
        yield network.authorities(self.environment)
        yield network.mirror(self.mirror)
        yield docker_environment.check_docker_variables(
            self.environment, self._hosts(seen), [one.name for one in seen if one.ping]
        )
        if trouble is not None:
            yield warning("machines", trouble.message, trouble.hint or f"ls -ld {shlex.quote(str(self.home.machines))}")
        for one in seen:
            yield from self.ward.findings(one)
        yield from leftovers.incomplete_machines(self.home)

    def _seen(self) -> tuple[list[MachineReport], B2dError | None]:
        try:
            return self.ward.seen(), None
        except B2dError as error:
            return [], error

    def _host(self) -> Iterator[Finding]:
        yield programs.python(self.python)
        qemu = programs.qemu(self.installer, self._without("qemu"))
        yield qemu
        if self.platform == "linux" and qemu.verdict == Verdict.GOOD:
            yield programs.folders_by(self.installer, qemu, self.virtiofsd, self.namespaces)
            yield programs.confinement(self.installer, seccomp.is_supported)
        no_disk = "no disk can be made without it"
        yield programs.program(
            self.installer, Requirement("qemu-img", QEMU_IMG, "--version", self._without("qemu"), no_disk)
        )
        virtualbox = hypervisors.virtualbox(self.virtualbox, self.hypervisor == "virtualbox")
        yield virtualbox
        if self.platform == "linux":
            works = virtualbox.verdict == Verdict.GOOD and not virtualbox.fix
            found = hypervisors.network_driver(self.network_driver, works)
            yield from [found] if found else []
        more_memory = "an image made without it needs more memory"
        yield programs.program(
            self.installer, Requirement("mksquashfs", SQUASHFS, "-version", Verdict.DOUBTFUL, more_memory)
        )
        remedy = self.hardware.remedy if self.platform == "linux" else lambda: ""
        yield hypervisors.acceleration(self.accelerator, remedy)
        if self.platform == "win32":
            yield hypervisors.hyper_v(self.hyper_v)

    def _home(self, specs: Sequence[MachineSpec | None] | None) -> Iterator[Finding]:
        yield home_folder.home(self.home)
        yield home_folder.file_system(self.home, self.file_system)
        yield home_folder.space(self.home)
        yield home_folder.temporary()
        yield home_folder.secrets(self.home)
        yield leftovers.stale_files(self.home, self.ward.now())
        try:
            yield leftovers.images(specs, self.spare_images)
            yield from leftovers.debian_image(self.ward.images.find)
        except B2dError as error:
            yield warning("images", error.message, error.hint)

    def _without(self, hypervisor: str) -> Verdict:
        """How bad it is when one is missing."""
        return Verdict.BAD if hypervisor == self.hypervisor else Verdict.DOUBTFUL

    def _hosts(self, seen: Sequence[MachineReport]) -> dict[str, str]:
        """Each machine's DOCKER_HOST, as it is, or was when it ran last, or will be."""
        hosts = {}
        for one in seen:
            if one.spec is not None:
                hosts[f"tcp://{one.spec.address}:{one.spec.docker_port}"] = one.name
                facts = MachineStore(self.home).read_env(one.name)
                hosts |= {facts.docker.host: one.name} if facts is not None else {}
        return hosts
