"""The examination of this host, this home and its machines; each finding names a fix."""

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
from b2d.drivers.virtualbox.host_only_network import DEVICE as NETWORK_DRIVER
from b2d.errors import B2dError, ConfigError
from b2d.host import seccomp
from b2d.host.package_managers import QEMU_IMG, SQUASHFS, Installer
from b2d.machine_store.store import MachineStore
from b2d.models import Image, MachineSpec
from b2d.paths import Home

__all__ = ["Examination", "Finding", "MachineChecks", "Verdict"]


@dataclass(frozen=True, slots=True)
class Examination:
    """The checks of doctor and their inputs.

    `mirror`, `accelerator` (name and reason) and `virtualbox` (version and location) may raise B2dError.
    """

    home: Home
    mirror: Callable[[], str]
    accelerator: Callable[[], tuple[str, str]]
    virtualbox: Callable[[], str]
    machine_checks: MachineChecks
    spare_images: Callable[[Collection[str]], list[Image]]  # all images but the used ones, which are given by sha256
    virtiofsd: Callable[[], tuple[tuple[int, int], str]]  # version and path
    hypervisor: str = "qemu"  # of a new machine
    unread: ConfigError | None = None  # why the settings could not be read, so that these are defaults
    namespaces: Callable[[], bool] = lambda: True  # whether a virtiofsd can be confined to its folder
    installer: Installer = field(default_factory=Installer)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    python: tuple[int, int] = sys.version_info[:2]
    platform: str = sys.platform
    hardware: Hardware = field(default_factory=Hardware)
    network_driver: Path = NETWORK_DRIVER
    hyper_v: Callable[[], bool] = hypervisors.has_windows_hypervisor
    file_system: Callable[[Path], str] = home_folder.file_system_type

    def findings(self) -> Iterator[Finding]:
        """Yield the findings one by one, since some take a moment."""
        reports, trouble = self._examine_machines()
        if self.unread is not None:
            fix = "b2d config edit" if self.home.config.is_file() else ""
            yield Finding("settings", Verdict.BAD, self.unread.message, fix)
        yield from self._host()
        yield from self._home(None if trouble else [report.spec for report in reports])
        engines = ((report.ping.api_version, report.name) for report in reports if report.ping is not None)
        api, machine = next(engines, ("", ""))
        yield programs.check_docker(self.installer, self.environment, api, machine)
        addresses = {report.name: report.spec.address for report in reports if report.spec is not None}
        yield network.check_proxies(self.environment, addresses)
        yield network.check_authorities(self.environment)
        yield network.check_mirror(self.mirror)
        yield docker_environment.check_docker_variables(
            self.environment, self._hosts(reports), [report.name for report in reports if report.ping]
        )
        if trouble is not None:
            yield warning("machines", trouble.message, trouble.hint or f"ls -ld {shlex.quote(str(self.home.machines))}")
        for report in reports:
            yield from self.machine_checks.findings(report)
        yield from leftovers.find_incomplete_machines(self.home)

    def _examine_machines(self) -> tuple[list[MachineReport], B2dError | None]:
        try:
            return self.machine_checks.examine(), None
        except B2dError as error:
            return [], error

    def _host(self) -> Iterator[Finding]:
        yield programs.check_python(self.python)
        qemu = programs.check_qemu(self.installer, self._without("qemu"))
        yield qemu
        if self.platform == "linux" and qemu.verdict == Verdict.GOOD:
            yield programs.check_folder_sharing(self.installer, qemu, self.virtiofsd, self.namespaces)
            yield programs.check_confinement(self.installer, seccomp.is_supported)
        no_disk = "disks cannot be created without it"
        yield programs.check_program(
            self.installer, Requirement("qemu-img", QEMU_IMG, "--version", self._without("qemu"), no_disk)
        )
        virtualbox = hypervisors.check_virtualbox(self.virtualbox, self.hypervisor == "virtualbox")
        yield virtualbox
        if self.platform == "linux":
            works = virtualbox.verdict == Verdict.GOOD and not virtualbox.fix
            finding = hypervisors.check_network_driver(self.network_driver, works)
            yield from [finding] if finding else []
        more_memory = "an image built without it needs more memory"
        yield programs.check_program(
            self.installer, Requirement("mksquashfs", SQUASHFS, "-version", Verdict.DOUBTFUL, more_memory)
        )
        remedy = self.hardware.remedy if self.platform == "linux" else lambda: ""
        yield hypervisors.check_acceleration(self.accelerator, remedy)
        if self.platform == "win32":
            yield hypervisors.check_hyper_v(self.hyper_v)

    def _home(self, specs: Sequence[MachineSpec | None] | None) -> Iterator[Finding]:
        yield home_folder.check_home(self.home)
        yield home_folder.check_file_system(self.home, self.file_system)
        yield home_folder.check_space(self.home)
        yield home_folder.check_temporary_folder()
        yield home_folder.check_secrets(self.home)
        yield leftovers.check_stale_files(self.home, self.machine_checks.now())
        try:
            yield leftovers.check_images(specs, self.spare_images)
            yield leftovers.check_templates(self.home, self.machine_checks.images)
            yield from leftovers.check_debian_image(self.machine_checks.images.find)
        except B2dError as error:
            yield warning("images", error.message, error.hint)

    def _without(self, hypervisor: str) -> Verdict:
        """Return the verdict for a missing hypervisor."""
        return Verdict.BAD if hypervisor == self.hypervisor else Verdict.DOUBTFUL

    def _hosts(self, reports: Sequence[MachineReport]) -> dict[str, str]:
        """Return the machines' names by their DOCKER_HOST, current, of the last run, or of the next."""
        hosts = {}
        for report in reports:
            if report.spec is not None:
                hosts[f"tcp://{report.spec.address}:{report.spec.docker_port}"] = report.name
                facts = MachineStore(self.home).read_env(report.name)
                hosts |= {facts.docker.host: report.name} if facts is not None else {}
        return hosts
