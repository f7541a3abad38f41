"""Wire the import: where machines to import are searched, and what copies their disks."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.app.wiring import App
from b2d.config import loader
from b2d.drivers import hypervisors
from b2d.errors import B2dError, ConfigError, HypervisorError
from b2d.importing import candidates
from b2d.importing.candidates import ImportCandidate
from b2d.importing.disk_copy import DiskImport, Stamp, imported_from, stamps
from b2d.machine_names import command_for
from b2d.models import MachineSpec
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.importing.base import DiskToCopy

VIRTUALBOX_FORMATS = {".vmdk": "vmdk", ".vdi": "vdi", ".vhd": "vpc"}  # what it can copy itself, as qemu-img names it


def find_candidates(app: App) -> list[ImportCandidate]:
    """Return the machines that could be imported; those that cannot be understood are left out."""
    machines = _virtualbox_disk(app)
    listed = {machine.settings for machine in machines}
    folders = [*candidates.docker_machine_candidates(os.environ), *candidates.virtualbox_candidates(os.environ)]
    for folder in folders:
        try:
            machine = candidates.from_folder(folder)
        except B2dError:
            continue
        if machine.settings is None or machine.settings not in listed:
            machines.append(machine)
            listed.add(machine.settings)
    return sorted(machines, key=lambda machine: machine.name)


def import_machine(app: App, original: ImportCandidate) -> bool:
    """Create a machine from `original`; False when that was done already. Raises B2dError, and leaves nothing then."""
    machine = app.machine()
    taken = ConfigError(f"there is a machine {machine.name} already", hint="b2d import ... --vm NAME")
    if machine.exists():
        if imported_from(machine.paths, original):
            return False
        raise taken
    candidates.require_off(original)

    created = machine.init(ImportedMachine(app, original, _disk_import(app, original, machine.paths)))
    if not imported_from(machine.paths, original):  # the disk belongs to another machine, which lost its spec
        raise taken
    if created and not machine.spec().share and app.settings.share:
        command = command_for("set share='~/*'", machine.name)
        app.reporter.note(f"{machine.name} is imported and shares no folders of this host; to share some: {command}")
    return created


@dataclass(frozen=True, slots=True)
class ImportedMachine:
    """The settings' machine with what is taken over from another: its size, and a copy of its disk."""

    app: App
    original: ImportCandidate
    disk: DiskImport

    def new_machine_spec(self) -> MachineSpec:
        """Return the spec. Raises B2dError for a disk that cannot be imported."""
        self.disk.check()
        return _spec_like(self.app, self.original, self.app.new_machine_spec())

    def with_image(self, spec: MachineSpec) -> MachineSpec:
        """Obtain an image, copy the disk, and return the spec. Raises B2dError; nothing is left then."""
        spec = self.app.with_image(spec)
        self.disk.run(self.app.reporter)
        return spec._replace(disk_mib=self.disk.disk_mib)


def create_from_disk(app: App, disk: Path) -> bool:
    """Create the settings' machine with a copy of `disk`; False when the machine exists."""
    if app.machine().exists():
        return False
    if not disk.is_file():
        raise ConfigError(f"there is no disk {disk} to copy", hint="--basevmdk FILE")
    original = candidates.from_file(disk, find_candidates(app))
    return import_machine(app, replace(original, memory_mib=0, cpus=0))


def _disk_import(app: App, original: ImportCandidate, paths: MachinePaths) -> DiskImport:
    driver = app.hypervisor()
    before = _stamps(original)
    return DiskImport(
        original, _disk_to_copy(app, original, driver), paths, hypervisors.get(driver).disk(paths), before
    )


def _spec_like(app: App, original: ImportCandidate, spec: MachineSpec) -> MachineSpec:
    """Return the spec with the original's memory and CPUs, unless this command line gives others."""
    explicit = {key for key, origin in app.effective.origins.items() if origin.startswith("--")}
    least = loader.RANGES["memory"][0]
    if original.memory_mib and "memory" not in explicit:
        spec = spec._replace(memory_mib=max(original.memory_mib, least))
    if original.cpus and "cpus" not in explicit:
        spec = spec._replace(cpus=original.cpus)
    if app.effective.origins["share"] == loader.DEFAULT and spec.share:  # its disk may start untrusted programs
        spec = spec._replace(share=(), folders=())
    return spec


def _stamps(original: ImportCandidate) -> list[Stamp]:
    """Return the stamps of the disk's files. Raises B2dError for what is no file, or a link that nobody typed."""
    try:
        if not original.typed and original.disk.is_symlink():
            message = f"the disk of {original.name} is a symbolic link, which is not followed: {original.disk}"
            raise B2dError(message, hint="b2d import FILE, the disk itself")
        return stamps(original)
    except FileNotFoundError as error:
        raise B2dError(f"the disk of {original.name} is missing: {error.filename}") from error
    except OSError as error:
        raise B2dError(f"{error.filename} cannot be read: {error.strerror}") from error


def _disk_to_copy(app: App, original: ImportCandidate, driver: str) -> "DiskToCopy":
    from b2d.drivers.qemu.disk_import import ImageCopy, check_disk

    if original.has_snapshots:
        from b2d.drivers.virtualbox.disk_import import FlattenedDisk, MediumCopy

        kind = MediumCopy if driver == hypervisors.VIRTUALBOX.name else FlattenedDisk
        try:
            return kind(_virtualbox(app), (original.disk, *original.parents))
        except HypervisorError as error:
            message = f"{original.name} has snapshots, and only VirtualBox can merge its disk"
            raise B2dError(message, hint="b2d doctor", details=error.message) from error
    if driver == hypervisors.VIRTUALBOX.name and check_disk(original.disk) == VIRTUALBOX_FORMATS.get(
        original.disk.suffix.lower()
    ):
        from b2d.drivers.virtualbox.disk_import import MediumCopy

        return MediumCopy(_virtualbox(app), (original.disk,))
    return ImageCopy(original.disk, "qcow2" if driver == hypervisors.QEMU.name else "vdi")


def _virtualbox_disk(app: App) -> list[ImportCandidate]:
    """Return VirtualBox's own machines; none where VirtualBox does not work: files can still be imported."""
    from b2d.drivers.virtualbox import disk_import

    try:
        return disk_import.find_machines(_virtualbox(app), app.home.machines)
    except HypervisorError:
        return []


def _virtualbox(app: App) -> "VirtualBox":
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.drivers.virtualbox.installation import SearchPaths

    return VirtualBox(SearchPaths().vboxapi(app.settings.vboxapi))
