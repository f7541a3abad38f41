"""VirtualBox's API through pyvbox, which no other module knows: plain values go in and come out, and b2d's errors.

pyvbox knows the API of 6.1. Its methods are used where they are right on every version since; what has moved is
reached by the API's own names (virtualbox_hardware.py), and its numbers for states are not used at all. It takes longer
to load than all else of `b2d status` together: what only asks does without it.
"""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from b2d.drivers.virtualbox import machine_state
from b2d.drivers.virtualbox.calls import (
    NOT_FOUND,
    code_of,
    foreign_errors,
    translate_errors,
    translated,
    wait_for_progress,
)
from b2d.drivers.virtualbox.hardware import DISK, Assign, Constant, Step, Version
from b2d.drivers.virtualbox.installation import in_stable_folder, manager, quiet
from b2d.errors import HypervisorError, InvalidStateError
from b2d.guest import seed
from b2d.models import MachineState

DISK_S = 120.0
COMPACT_S = 3600.0
# what vboxapi is known to raise where VirtualBox's service is missing, broken or of another kind
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
    """The service of the person who runs b2d; it starts by itself, and ends soon after nobody asks any more."""

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
                    "VirtualBox's service (VBoxSVC) does not answer: once it is well again, the same command works",
                    hint="b2d doctor",
                    details=str(error),
                ) from error

    @cached_property
    def pyvbox(self) -> Any:
        """The library, over this connection; for the driver's other modules."""
        import virtualbox

        virtualbox._managers.setdefault(os.getpid(), self._manager)
        return virtualbox

    @cached_property
    def root(self) -> Any:
        """pyvbox's own IVirtualBox, for the driver's other modules."""
        return self.pyvbox.library.IVirtualBox(self._raw)

    def find_machine(self, settings: Path) -> Any | None:
        """Return vboxapi's machine whose settings are in that file, None when there is none; for VirtualBoxMachine."""
        found = self._find(str(settings))
        if found is None:  # one whose file is gone is only in the list
            with translate_errors():
                found = next((it for it in self.array("machines") if str(it.settingsFilePath) == str(settings)), None)
        return found

    def other(self, name: str) -> str | None:
        """Where the settings of a machine of that name are, None when there is none."""
        found = self._find(name)
        with translate_errors():
            return None if found is None else str(found.settingsFilePath)

    def create(self, arguments: list[object], steps: Iterable[Step]) -> None:
        """Make and register a machine."""
        with translate_errors():
            raw = self._raw.createMachine(*(self.number(argument) for argument in arguments))
            made = self.pyvbox.library.IMachine(raw)
            self.apply(made, steps)
            made.save_settings()
            self.root.register_machine(made)

    def create_disk(self, path: Path, size_mib: int, payload: bytes) -> None:
        """Make a disk that grows with what is in it, and begins with `payload`."""
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
                content._i.write(0, payload)  # pyvbox's own write() wants what vboxapi does not take
            finally:
                content.close()

    def disk_mib(self, path: Path) -> int:
        """How large a disk is."""
        with translate_errors():
            return int(self.medium(path, DISK).logical_size) >> 20

    def grow_disk(self, path: Path, size_mib: int) -> None:
        """Make a disk larger that no machine has open. Raises InvalidStateError where the guest has begun to format it.

        And where there are snapshots: VirtualBox makes the file larger then, and the machine never sees it (7.2).
        """
        with translate_errors():
            disk = self.medium(path, DISK)
            _refuse_snapshots(disk)
            content = disk.open_for_io(False, "")
            try:
                first = bytes(content._i.read(0, seed.SMALL_SECTOR))
            finally:
                content.close()
            seed.refuse_half_formatted(first)
            wait_for_progress(disk.resize(size_mib << 20), "the disk", DISK_S)
            disk.refresh_state()  # else it is told to have its old size (seen on 7.2)

    def compact_disk(self, path: Path) -> None:
        """Take the blocks of zeros out of a disk that no machine has open."""
        with translate_errors():
            disk = self.medium(path, DISK)
            _refuse_snapshots(disk)
            wait_for_progress(disk.compact(), "the disk", COMPACT_S)

    def medium(self, path: Path, kind: str) -> Any:
        """The medium in a file, for VirtualBoxMachine alone."""
        library = self.pyvbox.library
        readable = library.AccessMode.read_write if kind == DISK else library.AccessMode.read_only
        device = library.DeviceType.hard_disk if kind == DISK else library.DeviceType.dvd
        return self.root.open_medium(str(path), device, readable, False)

    def forget_media(self, below: Iterable[Path], spared: Iterable[Path] = ()) -> None:
        """Forget the disks and ISOs in those folders that no machine has; the files stay, and so do those spared.

        After a snapshot that failed VirtualBox says of a machine's CDs that nobody has them (7.2).
        """
        folders = list(below)
        with translate_errors():
            for medium in [*self.root.hard_disks, *self.root.dvd_images]:
                here = any(Path(str(medium.location)).is_relative_to(folder) for folder in folders)
                if here and not medium.machine_ids and Path(str(medium.location)) not in spared:
                    _close(medium)

    def apply(self, machine: Any, steps: Iterable[Step]) -> None:
        """Do what the steps say to a machine that may be changed, for VirtualBoxMachine alone."""
        for step in steps:
            owner, name = _walk(machine._i, step.path)
            if isinstance(step, Assign):
                setattr(owner, name, self.number(step.value))
            else:
                getattr(owner, name)(*(self.number(argument) for argument in step.arguments))

    def array(self, name: str, owner: Any = None) -> list[Any]:
        """An attribute of VirtualBox's, or of another object of its API, that holds several."""
        return list(self._manager.getArray(self._raw if owner is None else owner, name))

    def call(self, name: str, *arguments: object) -> Any:
        """A method of VirtualBox's that pyvbox does not know."""
        return getattr(self._raw, name)(*arguments)

    def number(self, value: object) -> object:
        """The number that a constant has in the installed version; anything else is itself."""
        if not isinstance(value, Constant):
            return value
        return getattr(self._constants, f"{value.enumeration}_{value.name}")

    def state(self, number: int) -> MachineState:
        """What one of the installed version's numbers for states means."""
        return machine_state.by_number(self._constants.all_values("MachineState"))[number]

    def _find(self, key: str) -> Any:
        try:
            return self._raw.findMachine(key)
        except foreign_errors() as error:
            if code_of(error) == NOT_FOUND:
                return None
            raise translated(error) from error


def _refuse_snapshots(disk: Any) -> None:
    if list(disk.children):
        raise InvalidStateError("VirtualBox does that to no disk that has snapshots", hint="b2d snapshot list")


def _close(medium: Any) -> None:
    """With those that go on from it, after a snapshot."""
    for child in list(medium.children):
        _close(child)
    medium.close()


def _walk(owner: Any, path: str) -> tuple[Any, str]:
    """The object that a path ends at, and the name of what is asked of it there."""
    *way, last = path.split(".")
    for part in way:
        name, _, argument = part.rstrip(")").partition("(")
        owner = getattr(owner, name)
        if argument:
            owner = owner(int(argument) if argument.isdigit() else argument)
    return owner, last


def _version(text: str) -> Version:
    major, minor = text.split("_")[:2]
    return int(major), int(minor)
