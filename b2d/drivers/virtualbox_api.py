"""VirtualBox's API through pyvbox, which no other module knows: plain values go in and come out, and b2d's errors.

pyvbox knows the API of 6.1. Its methods are used where they are right on every version since; what has moved is
reached by the API's own names (virtualbox_hardware.py), and its numbers for states are not used at all.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import virtualbox
from virtualbox import library

from b2d.drivers import virtualbox_state
from b2d.drivers.virtualbox_errors import NOT_FOUND, code_of, edge, foreign, translated
from b2d.drivers.virtualbox_hardware import CONTROLLER, DISK, Assign, Constant, Step, Version
from b2d.drivers.virtualbox_load import in_stable_folder, load, quiet
from b2d.drivers.virtualbox_patience import LOCK_WAIT_S, finish, patiently, within
from b2d.errors import B2dError, HypervisorUnusable, OutOfTime
from b2d.model import MachineState
from b2d.wait import wait_until

ANSWER_S = 10.0  # for a machine's process to answer
LAUNCH_S = 120.0
SAVE_S = 300.0
NO_PID = 0xFFFFFFFF
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
        """Connect. Raises HypervisorUnusable."""
        with quiet(), in_stable_folder():
            try:
                load(vboxapi)
                self._box = virtualbox.VirtualBox()
                self.version = str(self._box.version)
                self.api: Version = _version(str(self._box.api_version))
                self._constants = virtualbox.Manager().manager.constants
            except CONNECTION_ERRORS + foreign() as error:
                raise HypervisorUnusable(
                    "VirtualBox's service (VBoxSVC) does not answer: once it is well again, the same command works",
                    hint="b2d doctor",
                    details=str(error),
                ) from error

    def machine(self, settings: Path) -> "BoxMachine | None":
        """The machine whose settings are in that file, None when there is none."""
        found = self._find(str(settings))
        if found is None:  # one whose file is gone is only in the list
            with edge():
                found = next((it for it in self._box.machines if str(it.settings_file_path) == str(settings)), None)
        return None if found is None else BoxMachine(self, found)

    def other(self, name: str) -> str | None:
        """Where the settings of a machine of that name are, None when there is none."""
        found = self._find(name)
        with edge():
            return None if found is None else str(found.settings_file_path)

    def create(self, arguments: list[object], steps: Iterable[Step]) -> None:
        """Make and register a machine."""
        with edge():
            raw = self._box._call("createMachine", [self.number(argument) for argument in arguments])
            made = library.IMachine(raw)
            self.apply(made, steps)
            made.save_settings()
            self._box.register_machine(made)

    def create_disk(self, path: Path, size_mib: int, payload: bytes) -> None:
        """Make a disk that grows with what is in it, and begins with `payload`."""
        with edge():
            disk = self._box.create_medium(
                "VDI", str(path), library.AccessMode.read_write, library.DeviceType.hard_disk
            )
            finish(disk.create_base_storage(size_mib << 20, [library.MediumVariant.standard]), "the disk", LAUNCH_S)
            content = disk.open_for_io(True, "")
            try:
                content._i.write(0, payload)  # pyvbox's own write() wants what vboxapi does not take
            finally:
                content.close()

    def medium(self, path: Path, kind: str) -> Any:
        """The medium in a file, for BoxMachine alone."""
        readable = library.AccessMode.read_write if kind == DISK else library.AccessMode.read_only
        device = library.DeviceType.hard_disk if kind == DISK else library.DeviceType.dvd
        return self._box.open_medium(str(path), device, readable, False)

    def forget_media(self, below: Iterable[Path]) -> None:
        """Forget the disks and ISOs in those folders that no machine has; the files stay."""
        folders = list(below)
        with edge():
            for medium in [*self._box.hard_disks, *self._box.dvd_images]:
                here = any(Path(str(medium.location)).is_relative_to(folder) for folder in folders)
                if here and not medium.machine_ids:
                    medium.close()

    def apply(self, machine: Any, steps: Iterable[Step]) -> None:
        """Do what the steps say to a machine that may be changed, for BoxMachine alone."""
        for step in steps:
            owner, name = _walk(machine._i, step.path)
            if isinstance(step, Assign):
                setattr(owner, name, self.number(step.value))
            else:
                getattr(owner, name)(*(self.number(argument) for argument in step.arguments))

    def number(self, value: object) -> object:
        """The number that a constant has in the installed version; anything else is itself."""
        if not isinstance(value, Constant):
            return value
        return getattr(self._constants, f"{value.enumeration}_{value.name}")

    def state(self, number: int) -> MachineState:
        """What one of the installed version's numbers for states means."""
        return virtualbox_state.by_number(self._constants.all_values("MachineState"))[number]

    def _find(self, key: str) -> Any:
        try:
            return self._box.find_machine(key)
        except foreign() as error:
            if code_of(error) == NOT_FOUND:
                return None
            raise translated(error) from error


class BoxMachine:
    """One registered machine."""

    def __init__(self, box: VirtualBox, machine: Any) -> None:
        self._box = box
        self._machine = machine

    def trouble(self) -> str:
        """Why VirtualBox cannot read the machine's settings, "" when it can."""
        with edge():
            return "" if self._machine.accessible else str(self._machine.access_error.text).splitlines()[0]

    def state(self) -> MachineState:
        with edge():
            return self._box.state(int(self._machine._i.state))

    def last_change(self) -> str:
        """When its state changed last."""
        with edge():
            return str(self._machine.last_state_change)

    def note(self, key: str) -> str:
        """What was written down with the machine, in VirtualBox's own settings; "" when nothing was."""
        with edge():
            return str(self._machine.get_extra_data(key))

    def write_note(self, key: str, text: str) -> None:
        with self._session(library.LockType.shared) as session:
            session.machine.set_extra_data(key, text)

    def pid(self) -> int | None:
        """The process that has the machine; while it runs, the one that it is."""
        with edge():
            pid = int(self._machine.session_pid)
        return None if pid in (0, NO_PID) else pid

    def forwards(self) -> list[tuple[str, str, int]]:
        """The rules of the first network card: name, address and port on this host."""
        with edge():
            rules = [str(rule).split(",") for rule in self._machine.get_network_adapter(0).nat_engine.redirects]
        return [(rule[0], rule[2], int(rule[3])) for rule in rules]

    def edit(self, steps: Iterable[Step], media: Iterable[tuple[int, str, Path]] = ()) -> None:
        """Change the machine, which must be off; of `media` each is put (or attached) at its port."""
        with self._session(library.LockType.write) as session:
            self._box.apply(session.machine, steps)
            for port, kind, path in media:
                medium = self._box.medium(path, kind)
                if kind == DISK:
                    session.machine.attach_device(CONTROLLER, port, 0, library.DeviceType.hard_disk, medium)
                else:
                    session.machine.mount_medium(CONTROLLER, port, 0, medium, True)
            session.machine.save_settings()

    def launch(self) -> None:
        """Start its process, from off or saved, and return when it runs."""
        session = virtualbox.Session()
        progress = self._patiently(lambda: self._machine.launch_vm_process(session, "headless", []))
        with edge():
            try:
                finish(progress, "VirtualBox to start the machine", LAUNCH_S)
            finally:
                self._unlock(session)

    def press_button(self) -> None:
        self._ask(lambda console: console.power_button())

    def resume(self) -> None:
        self._ask(lambda console: console.resume())

    def power_down(self) -> None:
        self._ask(lambda console: finish(console.power_down(), "the machine's end", ANSWER_S))
        self._wait_unlocked()

    def save(self) -> None:
        """Write its state to disk and end it; while it cannot be, the machine runs on."""

        def write() -> None:
            with self._session(library.LockType.shared) as session:
                progress = session.machine.save_state()
                try:
                    finish(progress, "the machine's state to be saved", SAVE_S)
                except B2dError:
                    if self.state() != MachineState.SAVED:  # then the process was gone before it could be asked
                        raise

        self._ask(lambda console: console._i.state)  # one that hangs does not get as long as one that writes
        within(SAVE_S + ANSWER_S, write)
        self._wait_unlocked()

    def discard_saved(self) -> None:
        with self._session(library.LockType.write) as session:
            session.machine.discard_saved_state(True)

    def unregister(self) -> None:
        """Remove it from VirtualBox, with the disks that lie in its folder."""
        kind = library.CleanupMode.detach_all_return_hard_disks_only
        own = Path(str(self._machine._i.settingsFilePath)).parent.parent
        with edge():
            for medium in self._patiently(lambda: self._machine.unregister(kind)):
                if Path(str(medium.location)).is_relative_to(own):
                    finish(medium.delete_storage(), "a disk to be deleted", LAUNCH_S)

    def _ask(self, question: Callable[[Any], None]) -> None:
        def asked() -> None:
            with self._session(library.LockType.shared) as session:
                question(session.console)

        within(ANSWER_S, asked)

    @contextlib.contextmanager
    def _session(self, kind: Any) -> Iterator[Any]:
        """Hold the machine."""
        session = virtualbox.Session()
        self._patiently(lambda: self._machine.lock_machine(session, kind))
        try:
            with edge():
                yield session
        finally:
            self._unlock(session)
            if kind == library.LockType.write:
                self._wait_unlocked()

    def _patiently(self, question: Callable[[], Any]) -> Any:
        return patiently(question, self.pid)

    @staticmethod
    def _unlock(session: Any) -> None:
        with contextlib.suppress(*foreign()):  # it is unlocked by itself when the machine's process has ended
            session.unlock_machine()

    def _wait_unlocked(self) -> None:
        unlocked = int(library.SessionState.unlocked)
        with edge(), contextlib.suppress(OutOfTime):
            wait_until(
                lambda: int(self._machine._i.sessionState) == unlocked,
                what="VirtualBox to let go of the machine",
                timeout_s=LOCK_WAIT_S,
                interval_s=0.01,
            )


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
