"""The wiring of import: where originals are looked for, and what copies a disk."""

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
from b2d.machine_names import DEFAULT_NAME
from b2d.models import MachineSpec
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.importing.base import DiskToCopy

VIRTUALBOX_FORMATS = {".vmdk": "vmdk", ".vdi": "vdi", ".vhd": "vpc"}  # what it can copy itself, as qemu-img names it


def find_candidates(it: App) -> list[ImportCandidate]:
    """The machines that could be imported; those that cannot be understood are passed over."""
    found = _virtualbox_disk(it)
    listed = {one.settings for one in found}
    folders = [*candidates.docker_machine_candidates(os.environ), *candidates.virtualbox_candidates(os.environ)]
    for folder in folders:
        try:
            one = candidates.from_folder(folder)
        except B2dError:
            continue
        if one.settings is None or one.settings not in listed:
            found.append(one)
            listed.add(one.settings)
    return sorted(found, key=lambda one: one.name)


def import_machine(it: App, original: ImportCandidate) -> bool:
    """Make a machine of it; False when that was done already. Raises B2dError; nothing is left then."""
    machine = it.machine()
    taken = ConfigError(f"there is a machine {machine.name} already", hint="b2d import ... --vm NAME")
    if machine.exists():
        if imported_from(machine.paths, original):
            return False
        raise taken
    candidates.require_off(original)

    made = machine.init(ImportedMachine(it, original, _disk_import(it, original, machine.paths)))
    if not imported_from(machine.paths, original):  # what was there was another that had lost its description
        raise taken
    if made and not machine.spec().share and it.settings.share:
        vm = "" if machine.name == DEFAULT_NAME else f" --vm {machine.name}"
        it.reporter.note(f"{machine.name} has no folders of this host, as it was imported: b2d set share='~/*'{vm}")
    return made


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
        return replace(spec, disk_mib=self.disk.disk_mib)


def create_from_disk(it: App, disk: Path) -> bool:
    """Make a machine of the settings, whose disk begins as a copy of that one; False when there is a machine."""
    if it.machine().exists():
        return False
    if not disk.is_file():
        raise ConfigError(f"there is no disk {disk} to begin with", hint="--basevmdk FILE")
    original = candidates.from_file(disk, find_candidates(it))
    return import_machine(it, replace(original, memory_mib=0, cpus=0))


def _disk_import(it: App, original: ImportCandidate, paths: MachinePaths) -> DiskImport:
    driver = it.hypervisor()
    before = _stamps(original)
    return DiskImport(original, _disk_to_copy(it, original, driver), paths, hypervisors.get(driver).disk(paths), before)


def _spec_like(it: App, original: ImportCandidate, spec: MachineSpec) -> MachineSpec:
    """The spec with the original's memory and CPUs, where nobody asked for others on this command line."""
    asked = {key for key, origin in it.effective.origins.items() if origin.startswith("--")}
    least = loader.RANGES["memory"][0]
    if original.memory_mib and "memory" not in asked:
        spec = replace(spec, memory_mib=max(original.memory_mib, least))
    if original.cpus and "cpus" not in asked:
        spec = replace(spec, cpus=original.cpus)
    if it.effective.origins["share"] == loader.DEFAULT and spec.share:  # its disk may start programs of anybody's
        spec = replace(spec, share=(), folders=())
    return spec


def _stamps(original: ImportCandidate) -> list[Stamp]:
    """Take the stamps of its disk's files. Raises B2dError for what is no file, or a link that nobody typed."""
    try:
        if not original.typed and original.disk.is_symlink():
            said = f"the disk of {original.name} is a link, and is not followed: {original.disk}"
            raise B2dError(said, hint="b2d import FILE, the disk itself")
        return stamps(original)
    except FileNotFoundError as error:
        raise B2dError(f"the disk of {original.name} is gone: {error.filename}") from error
    except OSError as error:
        raise B2dError(f"{error.filename} cannot be read: {error.strerror}") from error


def _disk_to_copy(it: App, original: ImportCandidate, driver: str) -> "DiskToCopy":
    from b2d.drivers.qemu.disk_import import ImageCopy, check_disk

    if original.has_snapshots:
        from b2d.drivers.virtualbox.disk_import import FlattenedDisk, MediumCopy

        kind = MediumCopy if driver == hypervisors.VIRTUALBOX.name else FlattenedDisk
        try:
            return kind(_virtualbox(it), (original.disk, *original.parents))
        except HypervisorError as error:
            said = f"{original.name} has snapshots, and only VirtualBox can put its disk together"
            raise B2dError(said, hint="b2d doctor", details=error.message) from error
    if driver == hypervisors.VIRTUALBOX.name and check_disk(original.disk) == VIRTUALBOX_FORMATS.get(
        original.disk.suffix.lower()
    ):
        from b2d.drivers.virtualbox.disk_import import MediumCopy

        return MediumCopy(_virtualbox(it), (original.disk,))
    return ImageCopy(original.disk, "qcow2" if driver == hypervisors.QEMU.name else "vdi")


def _virtualbox_disk(it: App) -> list[ImportCandidate]:
    """None where VirtualBox is not there, or not well: files can be imported all the same."""
    from b2d.drivers.virtualbox import disk_import

    try:
        return disk_import.find_machines(_virtualbox(it), it.home.machines)
    except HypervisorError:
        return []


def _virtualbox(it: App) -> "VirtualBox":
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.drivers.virtualbox.installation import SearchPaths

    return VirtualBox(SearchPaths().vboxapi(it.settings.vboxapi))
