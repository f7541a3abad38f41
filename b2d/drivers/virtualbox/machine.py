"""A machine of VirtualBox: queries and changes, under a lock where one is needed."""

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
from b2d.drivers.virtualbox.machine_state import read_state_file
from b2d.drivers.virtualbox.port_forwards import parse_rules
from b2d.errors import B2dError, InvalidStateError, WaitTimeoutError
from b2d.host.polling import wait_until
from b2d.models import MachineState, Snapshot

ANSWER_S = 10.0  # for a machine's process to answer
LAUNCH_S = 120.0
SAVE_S = 300.0
SAVED_AGAIN = "b2d/saved"
NO_PID = 0xFFFFFFFF


class VirtualBoxMachine:
    """A registered machine."""

    def __init__(self, client: VirtualBox, raw: Any, name: str) -> None:
        """Wrap vboxapi's machine; `name` is b2d's own for it."""
        self._name = name
        self._client = client
        self._raw = raw

    @classmethod
    def find(cls, client: VirtualBox, settings: Path) -> Self | None:
        """Return the machine with that settings file, None when there is none."""
        raw = client.find_machine(settings)
        name = settings.parent.parent.name  # MachinePaths.virtualbox_settings
        return None if raw is None else cls(client, raw, name)

    @cached_property
    def _library(self) -> Any:
        return self._client.pyvbox.library

    @cached_property
    def _machine(self) -> Any:
        return self._library.IMachine(self._raw)

    def access_error(self) -> str:
        """Return the reason why VirtualBox cannot read the machine's settings, "" when it can."""
        with translate_errors():
            return "" if self._raw.accessible else str(self._raw.accessError.text).splitlines()[0]

    def state(self) -> MachineState:
        """Return the machine's state."""
        with translate_errors():
            return self._client.state(int(self._raw.state))

    def last_change(self) -> str:
        """Return the time of the last change of state."""
        with translate_errors():
            return str(self._raw.lastStateChange)

    def read_note(self, key: str) -> str:
        """Return an entry of the extra data in the machine's settings; "" when there is none."""
        with translate_errors():
            return str(self._raw.getExtraData(key))

    def write_note(self, key: str, text: str) -> None:
        """Write an entry of the extra data."""
        with self._session(self._library.LockType.shared) as session:
            session.machine.set_extra_data(key, text)

    def pid(self) -> int | None:
        """Return the process that has locked the machine; while it runs, its own process."""
        with translate_errors():
            pid = int(self._raw.sessionPID)
        return None if pid in (0, NO_PID) else pid

    def size(self) -> tuple[int, int]:
        """Return memory in MiB and CPUs, which cannot change while the machine is on."""
        with translate_errors():
            return int(self._raw.memorySize), int(self._raw.CPUCount)

    def forwards(self) -> list[tuple[str, str, int]]:
        """Return the rules of the first network card: name, address and port on this host."""
        with translate_errors():
            rules = self._client.array("redirects", self._raw.getNetworkAdapter(0).NATEngine)
        return list(parse_rules(map(str, rules)))

    def shares(self) -> list[str]:
        """Return the names of the shared folders."""
        with translate_errors():
            return [str(folder.name) for folder in self._client.array("sharedFolders", self._raw)]

    def edit(self, steps: Iterable[Step], media: Iterable[tuple[int, str, Path]] = ()) -> None:
        """Change the machine, which must be off; insert or attach each of `media` at its port."""
        with self._session(self._library.LockType.write) as session:
            self._client.apply(session.machine, steps)
            for port, kind, path in media:
                medium = self._client.medium(path, kind)
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
                self._client.apply(session.machine, steps)
                session.machine.save_settings()  # else only the machine's process sees it

        run_with_timeout(self._name, ANSWER_S, change)

    def launch(self) -> None:
        """Start its process, from off or saved, and return when it runs."""
        session = self._client.pyvbox.Session()
        progress = self._retry_while_locked(lambda: self._machine.launch_vm_process(session, "headless", []))
        with translate_errors():
            try:
                wait_for_progress(progress, "VirtualBox to start the machine", LAUNCH_S)
            finally:
                self._unlock(session)

    def press_button(self) -> None:
        """Press the power button."""
        self._run_in_session(lambda console: console.power_button())

    def screenshot(self) -> bytes:
        """Return the screen as a PNG."""
        images: list[bytes] = []

        def take(console: Any) -> None:
            width, height, *_ = console.display.get_screen_resolution(0)
            png = self._library.BitmapFormat.png
            images.append(bytes(console.display.take_screen_shot_to_array(0, width, height, png)))

        self._run_in_session(take)
        return images[0]

    def resume(self) -> None:
        """Resume from paused."""
        self._run_in_session(lambda console: console.resume())

    def power_down(self) -> None:
        """Cut the power."""
        self._run_in_session(lambda console: wait_for_progress(console.power_down(), "the machine's end", ANSWER_S))
        self._wait_unlocked()

    def save(self) -> None:
        """Write the state and end the machine; it continues to run when that fails."""

        def write() -> None:
            with self._session(self._library.LockType.shared) as session:
                progress = session.machine.save_state()
                try:
                    wait_for_progress(progress, "the machine's state to be saved", SAVE_S)
                except B2dError:
                    if self.state() != MachineState.SAVED:  # it is saved when the process ended before the query
                        raise

        # a process that hangs gets a shorter timeout than one that writes
        self._run_in_session(lambda console: console._i.state)
        run_with_timeout(self._name, SAVE_S + ANSWER_S, write)
        self._wait_unlocked()
        self.flush_settings()

    def flush_settings(self) -> None:
        """Have VirtualBox write the saved state to the settings file when it has not.

        The service fails to write it when a machine's process ends before the service has finished with it (7.2.22: one
        of ten times on a busy computer). It would forget the saved state at its own end.
        """
        if self.state() == MachineState.SAVED and read_state_file(self._settings()) != MachineState.SAVED:
            self.write_note(SAVED_AGAIN, self.last_change())  # any change makes VirtualBox write the whole file

    def discard_saved(self) -> None:
        """Discard the saved state."""
        with self._session(self._library.LockType.write) as session:
            session.machine.discard_saved_state(True)

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots, the oldest first."""
        with translate_errors():
            nodes = [self._raw.findSnapshot("")] if self._raw.snapshotCount else []  # the root
            for node in nodes:
                nodes.extend(self._client.array("children", node))  # visited later in this loop
            snapshots = [
                Snapshot(str(node.name), int(node.timeStamp) // 1000, self._disk_size(node.machine)) for node in nodes
            ]
        return sorted(snapshots, key=lambda snapshot: snapshot.taken_s)

    def take_snapshot(self, name: str) -> None:
        """Take a snapshot, of a running machine with its memory: VirtualBox cannot leave it out."""
        with self._session(self._lock()) as session:
            progress, _ = session.machine.take_snapshot(name, "", True)
            wait_for_progress(progress, "the snapshot", SAVE_S)

    def restore_snapshot(self, name: str) -> None:
        """Restore a snapshot, and discard its memory."""
        with self._session(self._library.LockType.write) as session:
            wait_for_progress(
                session.machine.restore_snapshot(session.machine.find_snapshot(name)), "the snapshot", SAVE_S
            )
        if self.state() == MachineState.SAVED:
            self.discard_saved()

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot. Raises InvalidStateError while more than one disk depends on it."""
        try:
            with self._session(self._lock()) as session:
                snapshot = session.machine.find_snapshot(name)
                wait_for_progress(session.machine.delete_snapshot(snapshot.id_p), "the snapshot to be merged", SAVE_S)
        except VirtualBoxError as error:
            if error.code != LOCKED:
                raise
            message = f"VirtualBox cannot delete {name} while several later snapshots, or the disk, depend on it"
            raise InvalidStateError(message, hint="delete the later snapshots first", details=error.details) from error

    def _settings(self) -> Path:
        with translate_errors():
            return Path(str(self._raw.settingsFilePath))

    def _lock(self) -> Any:
        """Return the type of lock for changes."""
        off_states = (MachineState.STOPPED, MachineState.CRASHED, MachineState.SAVED)
        return self._library.LockType.write if self.state() in off_states else self._library.LockType.shared

    def _disk_size(self, machine: Any) -> int:
        """Return the number of bytes of the files of a machine's data disk."""
        hard_disk = self._client.number(Constant("DeviceType", DISK))
        attached = self._client.array("mediumAttachments", machine)
        medium = next((entry.medium for entry in attached if entry.type == hard_disk), None)
        size = 0
        while medium is not None:
            size += int(medium.size)
            medium = medium.parent
        return size

    def isos(self) -> list[Path]:
        """Return the ISO files in its drives."""
        drive = self._client.number(Constant("DeviceType", DVD))
        with translate_errors():
            media = [
                entry.medium for entry in self._client.array("mediumAttachments", self._raw) if entry.type == drive
            ]
            return [Path(str(medium.location)) for medium in media if medium is not None]

    def unregister(self, spared: frozenset[Path] = frozenset()) -> None:
        """Remove it from VirtualBox, with the disks in its folder that are not spared."""
        kind = self._library.CleanupMode.detach_all_return_hard_disks_only
        own = self._settings().parent.parent
        with translate_errors():
            for medium in self._retry_while_locked(lambda: self._machine.unregister(kind)):
                location = Path(str(medium.location))
                if location.is_relative_to(own) and location not in spared:
                    wait_for_progress(medium.delete_storage(), "a disk to be deleted", LAUNCH_S)

    def _run_in_session(self, action: Callable[[Any], None]) -> None:
        def call() -> None:
            with self._session(self._library.LockType.shared) as session:
                action(session.console)

        run_with_timeout(self._name, ANSWER_S, call)

    @contextlib.contextmanager
    def _session(self, kind: Any) -> Iterator[Any]:
        """Hold the machine's lock."""
        session = self._client.pyvbox.Session()
        self._retry_while_locked(lambda: self._machine.lock_machine(session, kind))
        try:
            with translate_errors():
                yield session
        finally:
            self._unlock(session)
            if kind == self._library.LockType.write:
                self._wait_unlocked()

    def _retry_while_locked(self, call: Callable[[], Any]) -> Any:
        return retry_while_locked(call, self.pid)

    @staticmethod
    def _unlock(session: Any) -> None:
        with contextlib.suppress(*foreign_errors()):  # it was unlocked if the machine's process has ended
            session.unlock_machine()

    def _wait_unlocked(self) -> None:
        unlocked = int(self._library.SessionState.unlocked)
        with translate_errors(), contextlib.suppress(WaitTimeoutError):
            wait_until(
                lambda: int(self._raw.sessionState) == unlocked,
                condition="VirtualBox to unlock the machine",
                timeout_s=LOCK_WAIT_S,
                interval_s=0.01,
            )
