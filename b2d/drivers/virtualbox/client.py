"""A client of VirtualBox's API through pyvbox, with plain values and b2d's errors on the outside.

No other module knows pyvbox. It knows the API of 6.1: its methods are used where they are right for every version
since; what has moved is reached by the API's own names (hardware.py), and its numbers for states are not used at all.
It takes longer to import than all else of `b2d status` together: queries do without it.
"""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from b2d.drivers.virtualbox import machine_state
from b2d.drivers.virtualbox.calls import (
    NOT_FOUND,
    error_code,
    foreign_errors,
    translate_error,
    translate_errors,
    wait_for_progress,
)
from b2d.drivers.virtualbox.hardware import DISK, Assign, Constant, Step, Version
from b2d.drivers.virtualbox.installation import in_stable_folder, manager, quiet
from b2d.errors import HypervisorError, InvalidStateError
from b2d.guest import seed
from b2d.machine_names import command_for
from b2d.models import MachineState

DISK_S = 120.0
COMPACT_S = 3600.0
# raised by vboxapi when VirtualBox's service is missing, broken or of another version
CONNECTION_ERRORS: tuple[type[BaseException], ...] = (
    ImportError,
    OSError,
    AttributeError,
    TypeError,
    RecursionError,
    NameError,
    SystemExit,
)


class VirtualBox:
    """The VirtualBox service of the user; it starts by itself, and ends soon after the last client."""

    def __init__(self, vboxapi: Path) -> None:
        """Connect. Raises HypervisorError."""
        with quiet(), in_stable_folder():
            try:
                self._manager = manager(vboxapi)
                self._raw = self._manager.getVirtualBox()
                self.version = str(self._raw.version)
                self.api: Version = _version(str(self._raw.APIVersion))
                self._constants = self._manager.constants
            except CONNECTION_ERRORS + foreign_errors() as error:
                raise HypervisorError(
                    "VirtualBox's service (VBoxSVC) does not answer; when it does again, run the same command",
                    hint="b2d doctor",
                    details=str(error),
                ) from error

    @cached_property
    def pyvbox(self) -> Any:
        """The library pyvbox over this connection, for the driver's other modules."""
        import virtualbox

        virtualbox._managers.setdefault(os.getpid(), self._manager)
        return virtualbox

    @cached_property
    def root(self) -> Any:
        """The IVirtualBox of pyvbox, for the driver's other modules."""
        return self.pyvbox.library.IVirtualBox(self._raw)

    def find_machine(self, settings: Path) -> Any | None:
        """Return vboxapi's machine with that settings file, None when there is none; for VirtualBoxMachine."""
        raw = self._find(str(settings))
        if raw is None:  # a machine whose file is gone is only in the list
            with translate_errors():
                raw = next(
                    (machine for machine in self.array("machines") if str(machine.settingsFilePath) == str(settings)),
                    None,
                )
        return raw

    def find_settings(self, name: str) -> str | None:
        """Return the settings file of the machine of that name, None when there is none."""
        machine = self._find(name)
        with translate_errors():
            return None if machine is None else str(machine.settingsFilePath)

    def create(self, arguments: list[object], steps: Iterable[Step]) -> None:
        """Create and register a machine."""
        with translate_errors():
            raw = self._raw.createMachine(*(self.number(argument) for argument in arguments))
            machine = self.pyvbox.library.IMachine(raw)
            self.apply(machine, steps)
            machine.save_settings()
            self.root.register_machine(machine)

    def create_disk(self, path: Path, size_mib: int, payload: bytes) -> None:
        """Create a disk that grows with its content and begins with `payload`."""
        library = self.pyvbox.library
        with translate_errors():
            disk = self.root.create_medium(
                "VDI", str(path), library.AccessMode.read_write, library.DeviceType.hard_disk
            )
            wait_for_progress(
                disk.create_base_storage(size_mib << 20, [library.MediumVariant.standard]), "the disk", DISK_S
            )
            content = disk.open_for_io(True, "")
            try:
                content._i.write(0, payload)  # pyvbox's own write() passes arguments that vboxapi does not accept
            finally:
                content.close()

    def disk_mib(self, path: Path) -> int:
        """Return the size of a disk in MiB."""
        with translate_errors():
            return int(self.medium(path, DISK).logical_size) >> 20

    def grow_disk(self, path: Path, size_mib: int) -> None:
        """Enlarge a disk that no machine has open.

        Raises InvalidStateError when the guest has begun to format it, and when it has snapshots: VirtualBox then
        enlarges the file, and the machine never sees it (7.2).
        """
        with translate_errors():
            disk = self.medium(path, DISK)
            _refuse_snapshots(disk, path.parent.name)
            content = disk.open_for_io(False, "")
            try:
                first = bytes(content._i.read(0, seed.SMALL_SECTOR))
            finally:
                content.close()
            seed.refuse_half_formatted(first, path.parent.name)
            wait_for_progress(disk.resize(size_mib << 20), "the disk", DISK_S)
            disk.refresh_state()  # else it reports its old size (seen on 7.2)

    def compact_disk(self, path: Path) -> None:
        """Remove the blocks of zeros from a disk that no machine has open."""
        with translate_errors():
            disk = self.medium(path, DISK)
            _refuse_snapshots(disk, path.parent.name)
            wait_for_progress(disk.compact(), "the disk", COMPACT_S)

    def medium(self, path: Path, kind: str) -> Any:
        """Return the medium of a file, for VirtualBoxMachine alone."""
        library = self.pyvbox.library
        readable = library.AccessMode.read_write if kind == DISK else library.AccessMode.read_only
        device = library.DeviceType.hard_disk if kind == DISK else library.DeviceType.dvd
        return self.root.open_medium(str(path), device, readable, False)

    def forget_media(self, below: Iterable[Path], spared: Iterable[Path] = ()) -> None:
        """Unregister the disks and ISOs in those folders that no machine uses, except `spared`; the files stay.

        After a failed snapshot VirtualBox reports a machine's CDs as unused (7.2).
        """
        folders = list(below)
        with translate_errors():
            for medium in [*self.root.hard_disks, *self.root.dvd_images]:
                is_below = any(Path(str(medium.location)).is_relative_to(folder) for folder in folders)
                if is_below and not medium.machine_ids and Path(str(medium.location)) not in spared:
                    _close(medium)

    def apply(self, machine: Any, steps: Iterable[Step]) -> None:
        """Apply the steps to a machine that is locked for writing, for VirtualBoxMachine alone."""
        for step in steps:
            owner, name = _walk(machine._i, step.path)
            if isinstance(step, Assign):
                setattr(owner, name, self.number(step.value))
            else:
                getattr(owner, name)(*(self.number(argument) for argument in step.arguments))

    def array(self, name: str, owner: Any = None) -> list[Any]:
        """Return the items of an array attribute of VirtualBox, or of another object of its API."""
        return list(self._manager.getArray(self._raw if owner is None else owner, name))

    def call(self, name: str, *arguments: object) -> Any:
        """Call a method of VirtualBox that pyvbox does not know."""
        return getattr(self._raw, name)(*arguments)

    def number(self, value: object) -> object:
        """Return a constant's number in the installed version; return any other value unchanged."""
        if not isinstance(value, Constant):
            return value
        return getattr(self._constants, f"{value.enumeration}_{value.name}")

    def state(self, number: int) -> MachineState:
        """Return the state for one of the installed version's numbers."""
        return machine_state.states_by_number(self._constants.all_values("MachineState"))[number]

    def _find(self, key: str) -> Any:
        try:
            return self._raw.findMachine(key)
        except foreign_errors() as error:
            if error_code(error) == NOT_FOUND:
                return None
            raise translate_error(error) from error


def _refuse_snapshots(disk: Any, machine: str) -> None:
    if list(disk.children):
        hint = command_for("snapshot list", machine)
        raise InvalidStateError("VirtualBox cannot change a disk that has snapshots", hint=hint)


def _close(medium: Any) -> None:
    """Close a medium and the children that a snapshot left."""
    for child in list(medium.children):
        _close(child)
    medium.close()


def _walk(owner: Any, path: str) -> tuple[Any, str]:
    """Return the object before the last part of a path, and that part's name."""
    *parents, last = path.split(".")
    for part in parents:
        name, _, argument = part.rstrip(")").partition("(")
        owner = getattr(owner, name)
        if argument:
            owner = owner(int(argument) if argument.isdigit() else argument)
    return owner, last


def _version(text: str) -> Version:
    major, minor = text.split("_")[:2]
    return int(major), int(minor)
