"""One machine that VirtualBox has: what is asked of it and done to it, while it is locked where that must be."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from b2d.drivers.virtualbox.calls import (
    LOCK_WAIT_S,
    LOCKED,
    VirtualBoxError,
    foreign_errors,
    retry_while_locked,
    run_with_timeout,
    translate_errors,
    wait_for_progress,
)
from b2d.drivers.virtualbox.client import VirtualBox
from b2d.drivers.virtualbox.hardware import CONTROLLERS, DISK, DVD, Constant, Step
from b2d.drivers.virtualbox.machine_state import of_file
from b2d.drivers.virtualbox.port_forwards import parsed
from b2d.errors import B2dError, InvalidStateError, WaitTimeoutError
from b2d.host.polling import wait_until
from b2d.models import MachineState, Snapshot

ANSWER_S = 10.0  # for a machine's process to answer
LAUNCH_S = 120.0
SAVE_S = 300.0
SAVED_AGAIN = "b2d/saved"
NO_PID = 0xFFFFFFFF


class VirtualBoxMachine:
    """One registered machine."""

    def __init__(self, box: VirtualBox, raw: Any) -> None:
        self._box = box
        self._raw = raw

    @classmethod
    def find(cls, box: VirtualBox, settings: Path) -> Self | None:
        """Return the machine whose settings are in that file, None when there is none."""
        raw = box.find_machine(settings)
        return None if raw is None else cls(box, raw)

    @cached_property
    def _library(self) -> Any:
        return self._box.pyvbox.library

    @cached_property
    def _machine(self) -> Any:
        return self._library.IMachine(self._raw)

    def trouble(self) -> str:
        """Why VirtualBox cannot read the machine's settings, "" when it can."""
        with translate_errors():
            return "" if self._raw.accessible else str(self._raw.accessError.text).splitlines()[0]

    def state(self) -> MachineState:
        with translate_errors():
            return self._box.state(int(self._raw.state))

    def last_change(self) -> str:
        """When its state changed last."""
        with translate_errors():
            return str(self._raw.lastStateChange)

    def note(self, key: str) -> str:
        """What was written down with the machine, in VirtualBox's own settings; "" when nothing was."""
        with translate_errors():
            return str(self._raw.getExtraData(key))

    def write_note(self, key: str, text: str) -> None:
        with self._session(self._library.LockType.shared) as session:
            session.machine.set_extra_data(key, text)

    def pid(self) -> int | None:
        """The process that has the machine; while it runs, the one that it is."""
        with translate_errors():
            pid = int(self._raw.sessionPID)
        return None if pid in (0, NO_PID) else pid

    def size(self) -> tuple[int, int]:
        """Its memory in MiB and its CPUs: of a machine that is on, nobody can change them."""
        with translate_errors():
            return int(self._raw.memorySize), int(self._raw.CPUCount)

    def forwards(self) -> list[tuple[str, str, int]]:
        """The rules of the first network card: name, address and port on this host."""
        with translate_errors():
            rules = self._box.array("redirects", self._raw.getNetworkAdapter(0).NATEngine)
        return list(parsed(map(str, rules)))

    def shares(self) -> list[str]:
        """The names of the folders that it shares."""
        with translate_errors():
            return [str(one.name) for one in self._box.array("sharedFolders", self._raw)]

    def edit(self, steps: Iterable[Step], media: Iterable[tuple[int, str, Path]] = ()) -> None:
        """Change the machine, which must be off; of `media` each is put (or attached) at its port."""
        with self._session(self._library.LockType.write) as session:
            self._box.apply(session.machine, steps)
            for port, kind, path in media:
                medium = self._box.medium(path, kind)
                if kind == DISK:
                    session.machine.attach_device(
                        CONTROLLERS[kind], port, 0, self._library.DeviceType.hard_disk, medium
                    )
                else:
                    session.machine.mount_medium(CONTROLLERS[kind], port, 0, medium, True)
            session.machine.save_settings()

    def adjust(self, steps: Iterable[Step]) -> None:
        """Change the machine while it runs."""

        def change() -> None:
            with self._session(self._library.LockType.shared) as session:
                self._box.apply(session.machine, steps)
                session.machine.save_settings()  # else nobody but the machine's process sees it

        run_with_timeout(ANSWER_S, change)

    def launch(self) -> None:
        """Start its process, from off or saved, and return when it runs."""
        session = self._box.pyvbox.Session()
        progress = self._patiently(lambda: self._machine.launch_vm_process(session, "headless", []))
        with translate_errors():
            try:
                wait_for_progress(progress, "VirtualBox to start the machine", LAUNCH_S)
            finally:
                self._unlock(session)

    def press_button(self) -> None:
        self._ask(lambda console: console.power_button())

    def screenshot(self) -> bytes:
        """The screen as a PNG."""
        taken: list[bytes] = []

        def take(console: Any) -> None:
            width, height, *_ = console.display.get_screen_resolution(0)
            png = self._library.BitmapFormat.png
            taken.append(bytes(console.display.take_screen_shot_to_array(0, width, height, png)))

        self._ask(take)
        return taken[0]

    def resume(self) -> None:
        self._ask(lambda console: console.resume())

    def power_down(self) -> None:
        self._ask(lambda console: wait_for_progress(console.power_down(), "the machine's end", ANSWER_S))
        self._wait_unlocked()

    def save(self) -> None:
        """Write its state to disk and end it; while it cannot be, the machine runs on."""

        def write() -> None:
            with self._session(self._library.LockType.shared) as session:
                progress = session.machine.save_state()
                try:
                    wait_for_progress(progress, "the machine's state to be saved", SAVE_S)
                except B2dError:
                    if self.state() != MachineState.SAVED:  # then the process was gone before it could be asked
                        raise

        self._ask(lambda console: console._i.state)  # one that hangs does not get as long as one that writes
        run_with_timeout(SAVE_S + ANSWER_S, write)
        self._wait_unlocked()
        self.flush_settings()

    def flush_settings(self) -> None:
        """Have VirtualBox write down that the machine is saved, where it is and its settings file does not say so.

        A machine's process that ends sooner than the service is done with it makes that fail (7.2.22: one of ten times
        on a busy computer). The service would forget the saved state when it ends itself.
        """
        if self.state() == MachineState.SAVED and of_file(self._settings()) != MachineState.SAVED:
            self.write_note(SAVED_AGAIN, self.last_change())  # any change that is written has all of it written

    def discard_saved(self) -> None:
        with self._session(self._library.LockType.write) as session:
            session.machine.discard_saved_state(True)

    def snapshots(self) -> list[Snapshot]:
        """The oldest first."""
        with translate_errors():
            found = [self._raw.findSnapshot("")] if self._raw.snapshotCount else []  # the first
            for one in found:
                found.extend(self._box.array("children", one))  # which it meets in its turn
            told = [Snapshot(str(one.name), int(one.timeStamp) // 1000, self._held(one.machine)) for one in found]
        return sorted(told, key=lambda one: one.taken_s)

    def take_snapshot(self, name: str) -> None:
        """Of one that runs with its memory, which VirtualBox does not leave out."""
        with self._session(self._lock()) as session:
            progress, _ = session.machine.take_snapshot(name, "", True)
            wait_for_progress(progress, "the snapshot", SAVE_S)

    def restore_snapshot(self, name: str) -> None:
        """Its memory, where it has one, is let go of."""
        with self._session(self._library.LockType.write) as session:
            wait_for_progress(
                session.machine.restore_snapshot(session.machine.find_snapshot(name)), "the snapshot", SAVE_S
            )
        if self.state() == MachineState.SAVED:
            self.discard_saved()

    def delete_snapshot(self, name: str) -> None:
        """Raises InvalidStateError while more than one disk goes on from it."""
        try:
            with self._session(self._lock()) as session:
                snapshot = session.machine.find_snapshot(name)
                wait_for_progress(session.machine.delete_snapshot(snapshot.id_p), "the snapshot to be merged", SAVE_S)
        except VirtualBoxError as refused:
            if refused.code != LOCKED:
                raise
            said = f"VirtualBox keeps {name} while others, or the disk, go on from it"
            raise InvalidStateError(said, hint="delete the later ones first", details=refused.details) from refused

    def _settings(self) -> Path:
        with translate_errors():
            return Path(str(self._raw.settingsFilePath))

    def _lock(self) -> Any:
        """What a machine is changed under."""
        asleep = (MachineState.STOPPED, MachineState.CRASHED, MachineState.SAVED)
        return self._library.LockType.write if self.state() in asleep else self._library.LockType.shared

    def _held(self, machine: Any) -> int:
        """How many bytes the files of a machine's data disk have."""
        hard_disk = self._box.number(Constant("DeviceType", DISK))
        attached = self._box.array("mediumAttachments", machine)
        medium = next((one.medium for one in attached if one.type == hard_disk), None)
        size = 0
        while medium is not None:
            size += int(medium.size)
            medium = medium.parent
        return size

    def isos(self) -> list[Path]:
        """What lies in its drives."""
        drive = self._box.number(Constant("DeviceType", DVD))
        with translate_errors():
            held = [one.medium for one in self._box.array("mediumAttachments", self._raw) if one.type == drive]
            return [Path(str(medium.location)) for medium in held if medium is not None]

    def unregister(self, spared: frozenset[Path] = frozenset()) -> None:
        """Remove it from VirtualBox, with the disks that lie in its folder, but those that are spared."""
        kind = self._library.CleanupMode.detach_all_return_hard_disks_only
        own = self._settings().parent.parent
        with translate_errors():
            for medium in self._patiently(lambda: self._machine.unregister(kind)):
                where = Path(str(medium.location))
                if where.is_relative_to(own) and where not in spared:
                    wait_for_progress(medium.delete_storage(), "a disk to be deleted", LAUNCH_S)

    def _ask(self, question: Callable[[Any], None]) -> None:
        def asked() -> None:
            with self._session(self._library.LockType.shared) as session:
                question(session.console)

        run_with_timeout(ANSWER_S, asked)

    @contextlib.contextmanager
    def _session(self, kind: Any) -> Iterator[Any]:
        """Hold the machine."""
        session = self._box.pyvbox.Session()
        self._patiently(lambda: self._machine.lock_machine(session, kind))
        try:
            with translate_errors():
                yield session
        finally:
            self._unlock(session)
            if kind == self._library.LockType.write:
                self._wait_unlocked()

    def _patiently(self, question: Callable[[], Any]) -> Any:
        return retry_while_locked(question, self.pid)

    @staticmethod
    def _unlock(session: Any) -> None:
        with contextlib.suppress(*foreign_errors()):  # it is unlocked by itself when the machine's process has ended
            session.unlock_machine()

    def _wait_unlocked(self) -> None:
        unlocked = int(self._library.SessionState.unlocked)
        with translate_errors(), contextlib.suppress(WaitTimeoutError):
            wait_until(
                lambda: int(self._raw.sessionState) == unlocked,
                condition="VirtualBox to let go of the machine",
                timeout_s=LOCK_WAIT_S,
                interval_s=0.01,
            )
