"""Machines of QEMU: one process each, which outlives the terminal and is spoken to on its control socket.

What runs programs is imported where it is used: `b2d status` asks for the state alone, and is to be quick.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers.qemu.process import QemuProcess
from b2d.drivers.qemu.qmp import Qmp, QmpError
from b2d.drivers.qemu.saved_state import Dependencies, SavedState
from b2d.errors import InvalidStateError, MachineNotFoundError, SavedStateError, WaitTimeoutError
from b2d.host.file_removal import remove
from b2d.host.files import allocated_bytes, is_regular, os_errors_as_b2d_errors, read_text_tail, write_atomic
from b2d.host.process_identity import is_alive
from b2d.host.signals import signals_deferred
from b2d.models import (
    GUEST_SSH_PORT,
    HARDWARE,
    OFF_STATES,
    ON_STATES,
    Endpoint,
    Forward,
    Image,
    MachineSpec,
    MachineState,
    ProcessIdentity,
    Snapshot,
)
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    import socket

    from b2d.drivers.qemu.internal_snapshots import SnapshotDisk
    from b2d.drivers.qemu.launcher import Launcher

# RunState of QEMU's QMP reference; what is not here is a short step on the way to running
STATES = {
    "running": MachineState.RUNNING,
    "paused": MachineState.PAUSED,
    "suspended": MachineState.PAUSED,
    "io-error": MachineState.PAUSED,
    "watchdog": MachineState.PAUSED,
    "save-vm": MachineState.PAUSED,
    "postmigrate": MachineState.PAUSED,
    "shutdown": MachineState.STOPPING,
    "internal-error": MachineState.CRASHED,
    "guest-panicked": MachineState.CRASHED,
}


class QemuDriver:
    """The driver of one machine of QEMU; `accelerator` and `mount_type` are those settings."""

    def __init__(
        self,
        spec: MachineSpec,
        paths: MachinePaths,
        image: Callable[[], Image],
        accelerator: str = "auto",
        mount_type: str = "auto",
    ) -> None:
        self._spec = spec
        self._paths = paths
        self._process = QemuProcess(paths)
        self._saved = SavedState(paths)
        self._image = image
        self._accelerator = accelerator
        self._mount_type = mount_type

    def check(self) -> None:
        self._launcher().check()

    def create(self, payload: bytes) -> None:
        from b2d.drivers.qemu import qemu_img

        self.check()
        with os_errors_as_b2d_errors(self._paths.folder):
            qemu_img.create(self._paths.disk_qcow2, self._spec.disk_mib, payload)

    def delete(self) -> None:
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._process.end()
            paths = self._paths
            files = (paths.qemu_saved, paths.serial_log, paths.qemu_log, paths.virtiofsd_log)
            for path in (*files, paths.disk_qcow2):  # the disk last: while it is there, so is the machine
                remove(path)

    def state(self) -> MachineState:
        process = self._process.find()
        if process is not None:
            state = self._ask()
            if is_alive(process):
                return state
        if not is_regular(self._paths.disk_qcow2):
            return MachineState.ABSENT
        if self._saved.exists():
            return MachineState.SAVED
        return MachineState.CRASHED if self._process.left_behind() else MachineState.STOPPED

    def start(self) -> None:
        state = self._existing()
        if state in (MachineState.RUNNING, MachineState.STOPPING):
            raise InvalidStateError(f"{self._spec.name} is {state} already")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            if state == MachineState.PAUSED:
                self._go_on()
                return
            self._process.end()  # one that crashed, or that a b2d which was cut off did not see started
            if self._saved.exists():
                if self._resume():
                    return
                if self._spec.hardware < HARDWARE:
                    raise SavedStateError(f"the saved state of {self._spec.name} does not fit any more", hint="b2d up")
            self._launcher().launch()

    def stop(self) -> None:
        if self._running() == MachineState.PAUSED:
            with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
                self._go_on()  # a guest that stands still would not notice
        with Qmp(self._paths.qmp_socket) as qmp:
            qmp.execute("system_powerdown")

    def kill(self) -> None:
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._process.end()

    def save(self) -> None:
        self._running()
        launch = self._process.launch()
        if launch is None:
            raise InvalidStateError(f"how {self._spec.name} was started is not known any more", hint="b2d stop")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            with Qmp(self._paths.qmp_socket) as qmp:
                self._saved.save(qmp, Dependencies(qmp.version, launch.hardware, launch.image))
            self._process.end()

    def move_clock(self, seconds: int) -> None:
        from b2d.drivers import control_port

        control_port.move_clock(self._paths.line_socket, seconds)

    def unmount_folders(self) -> None:
        from b2d.drivers.qemu import shared_folders

        state = self._running()
        with Qmp(self._paths.qmp_socket) as qmp:
            there = shared_folders.count_mounted(qmp)
        if there and state == MachineState.PAUSED:
            self._go_on()  # a guest that stands still lets nothing go
        if there:
            write_atomic(self._paths.taken, b"")
            shared_folders.unmount(self._paths, self._spec.name)

    def mount_folders(self) -> list[str]:
        launch = self._process.launch()
        if launch is not None and not all(one is not None and is_alive(one) for one in launch.servers):
            raise InvalidStateError("their virtiofsd has ended, and who asks it for a file waits until: b2d restart")
        if not self._paths.taken.exists():
            return []
        from b2d.drivers.qemu import shared_folders

        self._running()
        found = shared_folders.mount(self._paths, self._spec.folders, launch.missing if launch is not None else ())
        self._paths.taken.unlink(missing_ok=True)
        return found

    def endpoint(self) -> Endpoint:
        if self._process.find() is None:
            self._running()
        launch = self._process.launch()
        return launch.endpoint if launch is not None else self._launcher().plan().endpoint

    def dial(self, port: int, timeout_s: float) -> "socket.socket":
        from b2d.drivers.qemu import port_forwards

        own = self.endpoint()
        if not self._spec.guarded and port == GUEST_SSH_PORT:
            return port_forwards.connected(own.address, own.ssh_port, timeout_s)
        return port_forwards.dial(self._paths.qmp_socket, own.address, port, timeout_s)

    def process(self) -> ProcessIdentity | None:
        return self._process.find()

    def effective_spec(self) -> MachineSpec | None:
        launch = self._process.launch() if self._process.find() else None
        if launch is None:
            return None
        from b2d.drivers.qemu.command_line import as_started

        return as_started(self._spec, launch.hardware)

    def forwards(self) -> list[Forward]:
        from b2d.drivers.qemu import port_forwards

        own = self.endpoint()
        found = port_forwards.list_forwards(self._paths.qmp_socket)
        mine = [("tcp", own.address, port) for port in (own.ssh_port, own.docker_port)]
        return [one for one in found if (one.protocol, one.address, one.port) not in mine]

    def forward_obstacle(self, forward: Forward) -> str:
        # slirp lets nothing of UDP out of such a machine, answers neither (seen on 7.2)
        return "no UDP with restrict" if self._spec.restrict and forward.protocol == "udp" else ""

    def add_forward(self, forward: Forward) -> None:
        from b2d.drivers.qemu import port_forwards

        port_forwards.add_forward(self._paths.qmp_socket, forward)

    def remove_forward(self, forward: Forward) -> None:
        from b2d.drivers.qemu import port_forwards

        port_forwards.remove_forward(self._paths.qmp_socket, forward)

    def limitations(self) -> list[str]:
        return self._launcher().limitations()

    def console(self) -> str:
        return read_text_tail(self._paths.serial_log)

    def screenshot(self) -> bytes:
        self._running()
        from tempfile import TemporaryDirectory

        folder = self._paths.folder
        in_json = os.fsencode(folder).decode(errors="ignore") == str(folder)  # else QEMU cannot be told of it
        with (
            os_errors_as_b2d_errors(folder),
            TemporaryDirectory(dir=folder if in_json else None, prefix=".screen-") as work,
        ):
            picture = Path(work) / "screen.png"
            with Qmp(self._paths.qmp_socket) as qmp:
                qmp.execute("screendump", filename=str(picture), format="png")  # as PNG since QEMU 7.1
            return picture.read_bytes()

    def disk_mib(self) -> int:
        from b2d.drivers.qemu import qcow2

        return qcow2.size(self._paths.disk_qcow2) >> 20

    def grow_disk(self, size_mib: int) -> None:
        from b2d.drivers.qemu import qemu_img

        self._off("grows")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            qemu_img.grow(self._paths.disk_qcow2, size_mib)

    @property
    def trims(self) -> bool:
        return True

    def disk_room(self) -> int:
        return allocated_bytes(self._paths.disk_qcow2)

    def compact_disk(self) -> None:
        from b2d.drivers.qemu import qemu_img

        self._off("is compacted")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            qemu_img.compact(self._paths.disk_qcow2)

    def snapshots(self) -> list[Snapshot]:
        from b2d.drivers.qemu import internal_snapshots

        return internal_snapshots.listed(self._paths.disk_qcow2)

    def take_snapshot(self, name: str) -> None:
        self._existing()
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._disk().take(name)

    def restore_snapshot(self, name: str) -> None:
        if (state := self._existing()) in ON_STATES:
            raise InvalidStateError(f"{self._spec.name} is {state}, and its disk is in use", hint="b2d stop")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._process.end()  # what crashed may still have it
            self._disk().go_back(name)
            self._saved.discard()  # last: until then the next start would go on from it, as if nothing had been

    def delete_snapshot(self, name: str) -> None:
        self._existing()
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._disk().drop(name)

    def _launcher(self, as_before: Sequence[str] = ()) -> "Launcher":
        """What starts it, with the hardware of an earlier start where that one is to go on."""
        from b2d.drivers.qemu import command_line
        from b2d.drivers.qemu.launcher import Launcher

        spec = command_line.as_started(self._spec, as_before)
        return Launcher(spec, self._paths, self._image, self._accelerator, self._mount_type, as_before)

    def _ask(self) -> MachineState:
        """What QEMU says; a process that lives and does not answer has the disk, so it counts as running."""
        try:
            with Qmp(self._paths.qmp_socket) as qmp:
                state = STATES.get(qmp.execute("query-status")["status"], MachineState.STARTING)
        except (QmpError, KeyError, TypeError):
            return MachineState.CRASHED if self._process.half_started() else MachineState.RUNNING
        return MachineState.CRASHED if state == MachineState.STARTING and self._process.abandoned() else state

    def _running(self) -> MachineState:
        state = self._existing()
        if state not in ON_STATES:
            raise InvalidStateError(f"{self._spec.name} is not running, it is {state}", hint="b2d start")
        return state

    def _go_on(self) -> None:
        """From paused. A save that was cut off at its end left a state: it is void from here on."""
        with Qmp(self._paths.qmp_socket) as qmp:
            self._saved.forget(qmp)
            qmp.execute("cont")

    def _resume(self) -> bool:
        """Go on from the saved state; False when it does not fit, and is no more."""
        from b2d.drivers.qemu.command_line import hardware

        kept = self._saved.dependencies()
        launcher = self._launcher(kept.hardware if kept is not None else [])
        plan = launcher.plan()
        if kept is not None and (hardware(kept.hardware), kept.image) == (plan.hardware, plan.image):
            launcher.launch("-S")
            if self._load(kept.qemu):
                return True
            self._process.end()
        self._saved.discard()
        return False

    def _load(self, version: str) -> bool:
        """Whether the QEMU that waits took the state and goes on; if not, the next boot shows why."""
        try:
            with Qmp(self._paths.qmp_socket) as qmp:
                if qmp.version != version:
                    return False
                self._saved.load(qmp)
                self._saved.forget(qmp)
                qmp.execute("cont")
        except (QmpError, WaitTimeoutError):
            return False
        return True

    def _disk(self) -> "SnapshotDisk":
        from b2d.drivers.qemu.internal_snapshots import SnapshotDisk

        return SnapshotDisk(self._paths, in_use=self._process.find() is not None)

    def _existing(self) -> MachineState:
        state = self.state()
        if state == MachineState.ABSENT:
            raise MachineNotFoundError(f"there is no machine {self._spec.name}", hint="b2d init")
        return state

    def _off(self, what: str) -> None:
        if (state := self._existing()) not in OFF_STATES:
            said = f"{self._spec.name} is {state}, and its disk {what} only while it is off"
            raise InvalidStateError(said, hint="b2d up && b2d stop")
