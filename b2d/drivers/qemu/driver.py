"""QEMU's driver: each machine is one process that outlives the terminal and is controlled by QMP.

Modules that run programs are imported where they are used: `b2d status` only asks for the state, and must be fast.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from b2d.drivers.qemu.process import QemuProcess
from b2d.drivers.qemu.qmp import Qmp, QmpError
from b2d.drivers.qemu.saved_state import Dependencies, SavedState
from b2d.errors import InvalidStateError, MachineNotFoundError
from b2d.host.file_removal import remove
from b2d.host.files import allocated_bytes, is_regular, os_errors_as_b2d_errors, read_text_tail, write_atomic
from b2d.host.process_identity import is_alive
from b2d.host.signals import signals_deferred
from b2d.machine_names import command_for, commands_for
from b2d.models import (
    GUEST_SSH_PORT,
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
    from b2d.drivers.qemu.starting import Starter

# RunState of QEMU's QMP reference; the missing ones are short steps on the way to running
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


class QemuSettings(NamedTuple):
    """The settings of those names that QEMU's machines use."""

    accelerator: str = "auto"
    mount_type: str = "auto"
    templates: int = 0  # MiB for templates; 0: none


DEFAULTS = QemuSettings()


class QemuDriver:
    """The driver of one QEMU machine."""

    def __init__(
        self,
        spec: MachineSpec,
        paths: MachinePaths,
        image: Callable[[], Image],
        settings: QemuSettings = DEFAULTS,
    ) -> None:
        """Bind the driver to a machine."""
        self._spec = spec
        self._paths = paths
        self._process = QemuProcess(paths)
        self._saved = SavedState(paths)
        self._image = image
        self._settings = settings

    def check(self) -> None:
        """Raise HypervisorError unless a machine could start on this host."""
        self._starter.launcher().check()

    def create(self, payload: bytes) -> None:
        """Create the machine and its data disk."""
        from b2d.drivers.qemu import qemu_img

        with os_errors_as_b2d_errors(self._paths.folder):
            qemu_img.create(self._paths.disk_qcow2, self._spec.disk_mib, payload)

    def delete(self) -> None:
        """Remove the machine and its disk."""
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._process.end()
            paths = self._paths
            files = (paths.qemu_saved, paths.serial_log, paths.qemu_log, paths.virtiofsd_log)
            for path in (*files, paths.disk_qcow2):  # the disk last: it decides whether the machine exists
                remove(path)

    def state(self) -> MachineState:
        """Return the machine's state."""
        process = self._process.find()
        if process is not None:
            state = self._query_state()
            if is_alive(process):
                return state
        if not is_regular(self._paths.disk_qcow2):
            return MachineState.ABSENT
        if self._saved.exists():
            return MachineState.SAVED
        return MachineState.CRASHED if self._process.has_leftover_pid() else MachineState.STOPPED

    def start(self) -> None:
        """Boot the machine, or resume it from paused or saved."""
        state = self._require_existing()
        if state in (MachineState.RUNNING, MachineState.STOPPING):
            raise InvalidStateError(f"{self._spec.name} is {state} already")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            if state == MachineState.PAUSED:
                self._continue()
                return
            self._process.end()  # it crashed, or a b2d that was killed did not see it started
            self._starter.start()

    def begin_template(self) -> bool:
        """Start a guest that will hold, unless there is a template already, or can be none."""
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            if self._require_existing() not in OFF_STATES:
                return False
            self._process.end()
            return self._starter.hold()

    def keep_template(self) -> None:
        """Store the state of the guest that holds, and end it."""
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._starter.keep()

    def give_up_template(self, reason: str) -> None:
        """End the guest that should hold, and try no template of this hardware for a day."""
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._starter.give_up(reason)

    def stop(self) -> None:
        """Press the power button."""
        if self._require_running() == MachineState.PAUSED:
            with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
                self._continue()  # a paused guest would not notice
        with Qmp(self._paths.qmp_socket) as qmp:
            qmp.execute("system_powerdown")

    def kill(self) -> None:
        """Cut the power."""
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._process.end()

    def save(self) -> None:
        """Write the state to disk and end the machine."""
        self._require_running()
        launch = self._process.launch()
        if launch is None:
            raise InvalidStateError(f"the start record of {self._spec.name} is missing", hint=self._command("stop"))
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            with Qmp(self._paths.qmp_socket) as qmp:
                self._saved.save(qmp, Dependencies(qmp.version, launch.hardware, launch.image))
            self._process.end()

    def move_clock(self, seconds: int) -> None:
        """Move the guest's clock through its control port."""
        from b2d.drivers import control_port

        control_port.move_clock(self._paths.line_socket, seconds)

    def unmount_folders(self) -> None:
        """Have the guest unmount all shared folders."""
        from b2d.drivers.qemu import shared_folders

        state = self._require_running()
        with Qmp(self._paths.qmp_socket) as qmp:
            mounted = shared_folders.count_mounted(qmp)
        if mounted and not self._image().boots_directly:  # another project's guest, which was asked over SSH
            shared_folders.await_unmounted(self._paths, self._spec.name)
            return
        if mounted and state == MachineState.PAUSED:
            self._continue()  # a paused guest cannot unmount
        if mounted:
            write_atomic(self._paths.taken, b"")
            shared_folders.unmount(self._paths, self._spec.name)

    def mount_folders(self) -> list[str]:
        """Have the guest mount the shared folders again."""
        launch = self._process.launch()
        if launch is not None and not all(server is not None and is_alive(server) for server in launch.servers):
            raise InvalidStateError(
                f"virtiofsd of the shared folders has ended; access to them hangs until: {self._command('restart')}"
            )
        if not self._paths.taken.exists():
            return []
        from b2d.drivers.qemu import shared_folders

        self._require_running()
        missing = shared_folders.mount(self._paths, self._spec.folders, launch.missing if launch is not None else ())
        self._paths.taken.unlink(missing_ok=True)
        return missing

    def endpoint(self) -> Endpoint:
        """Return the addresses of the machine's ports."""
        if self._process.find() is None:
            self._require_running()
        launch = self._process.launch()
        return launch.endpoint if launch is not None else self._starter.launcher().plan().endpoint

    def dial(self, port: int, timeout_s: float) -> "socket.socket":
        """Connect to a port of the guest."""
        from b2d.drivers.qemu import port_forwards

        own = self.endpoint()
        if not self._spec.guarded and port == GUEST_SSH_PORT:
            return port_forwards.connect(own.address, own.ssh_port, timeout_s)
        return port_forwards.dial(self._paths.qmp_socket, own.address, port, timeout_s)

    def process(self) -> ProcessIdentity | None:
        """Return the machine's process."""
        return self._process.find()

    def effective_spec(self) -> MachineSpec | None:
        """Return the spec with the memory and CPUs of the running machine."""
        launch = self._process.launch() if self._process.find() else None
        if launch is None:
            return None
        from b2d.drivers.qemu.command_line import spec_as_started

        return spec_as_started(self._spec, launch.hardware)

    def forwards(self) -> list[Forward]:
        """Return the port forwards except for the machine's own two."""
        from b2d.drivers.qemu import port_forwards

        own = self.endpoint()
        rules = port_forwards.list_forwards(self._paths.qmp_socket)
        own_rules = [("tcp", own.address, port) for port in (own.ssh_port, own.docker_port)]
        return [rule for rule in rules if (rule.protocol, rule.address, rule.port) not in own_rules]

    def forward_obstacle(self, forward: Forward) -> str:
        """Return the reason why a port can never be forwarded."""
        # slirp lets no UDP out of such a machine, not even answers (seen on 7.2)
        return "no UDP with restrict" if self._spec.restrict and forward.protocol == "udp" else ""

    def add_forward(self, forward: Forward) -> None:
        """Forward a port of this host into the guest."""
        from b2d.drivers.qemu import port_forwards

        port_forwards.add_forward(self._paths.qmp_socket, forward)

    def remove_forward(self, forward: Forward) -> None:
        """Stop forwarding a port."""
        from b2d.drivers.qemu import port_forwards

        port_forwards.remove_forward(self._paths.qmp_socket, forward)

    def limitations(self) -> list[str]:
        """Return the differences between the spec and what start would do."""
        return self._starter.launcher().limitations()

    def console(self) -> str:
        """Return the output of the serial console."""
        return read_text_tail(self._paths.serial_log)

    def screenshot(self) -> bytes:
        """Return the screen as a PNG."""
        self._require_running()
        from tempfile import TemporaryDirectory

        folder = self._paths.folder
        is_utf8 = os.fsencode(folder).decode(errors="ignore") == str(folder)  # else JSON cannot carry the path to QEMU
        with (
            os_errors_as_b2d_errors(folder),
            TemporaryDirectory(dir=folder if is_utf8 else None, prefix=".screen-") as work_folder,
        ):
            picture = Path(work_folder) / "screen.png"
            with Qmp(self._paths.qmp_socket) as qmp:
                qmp.execute("screendump", filename=str(picture), format="png")  # as PNG since QEMU 7.1
            return picture.read_bytes()

    def disk_mib(self) -> int:
        """Return the size of the data disk in MiB."""
        from b2d.drivers.qemu import qcow2

        return qcow2.read_size(self._paths.disk_qcow2) >> 20

    def grow_disk(self, size_mib: int) -> None:
        """Enlarge the data disk."""
        from b2d.drivers.qemu import qemu_img

        self._require_off("grows")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            qemu_img.grow(self._paths.disk_qcow2, size_mib)

    @property
    def trims(self) -> bool:
        """Whether discarded space returns to the host at once."""
        return True

    def disk_room(self) -> int:
        """Return the bytes that the data disk takes on this host."""
        return allocated_bytes(self._paths.disk_qcow2)

    def compact_disk(self) -> None:
        """Return blocks of zeros to the host."""
        from b2d.drivers.qemu import qemu_img

        self._require_off("is compacted")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            qemu_img.compact(self._paths.disk_qcow2)

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots, the oldest first."""
        from b2d.drivers.qemu import internal_snapshots

        return internal_snapshots.list_snapshots(self._paths.disk_qcow2)

    def take_snapshot(self, name: str) -> None:
        """Take a snapshot of the data disk."""
        self._require_existing()
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._disk().take(name)

    def restore_snapshot(self, name: str) -> None:
        """Restore the data disk from a snapshot."""
        if (state := self._require_existing()) in ON_STATES:
            raise InvalidStateError(f"{self._spec.name} is {state}, and its disk is in use", hint=self._command("stop"))
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._process.end()  # a crashed process may still have the disk open
            self._disk().restore(name)
            self._saved.discard()  # last: until then the next start would resume from it, as if nothing had happened

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot."""
        self._require_existing()
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._disk().delete(name)

    @property
    def _starter(self) -> "Starter":
        from b2d.drivers.qemu.starting import Starter

        return Starter(self._spec, self._paths, self._image, self._settings)

    def _query_state(self) -> MachineState:
        """Return the state that QEMU reports.

        A live process that does not answer has the disk open, so it counts as running.
        """
        if (launch := self._process.launch()) is not None and launch.holds:
            return MachineState.CRASHED if self._process.is_abandoned() else MachineState.STARTING
        try:
            with Qmp(self._paths.qmp_socket) as qmp:
                state = STATES.get(qmp.execute("query-status")["status"], MachineState.STARTING)
        except (QmpError, KeyError, TypeError):
            return MachineState.CRASHED if self._process.is_half_started() else MachineState.RUNNING
        return MachineState.CRASHED if state == MachineState.STARTING and self._process.is_abandoned() else state

    def _require_running(self) -> MachineState:
        state = self._require_existing()
        if state not in ON_STATES:
            raise InvalidStateError(f"{self._spec.name} is not running, it is {state}", hint=self._command("up"))
        return state

    def _continue(self) -> None:
        """Resume from paused, and void the state that an interrupted save may have left."""
        with Qmp(self._paths.qmp_socket) as qmp:
            self._saved.forget(qmp)
            qmp.execute("cont")

    def _command(self, verb: str) -> str:
        return command_for(verb, self._spec.name)

    def _disk(self) -> "SnapshotDisk":
        from b2d.drivers.qemu.internal_snapshots import SnapshotDisk

        return SnapshotDisk(self._paths, in_use=self._process.find() is not None)

    def _require_existing(self) -> MachineState:
        state = self.state()
        if state == MachineState.ABSENT:
            raise MachineNotFoundError(f"there is no machine {self._spec.name}", hint=self._command("init"))
        return state

    def _require_off(self, action: str) -> None:
        if (state := self._require_existing()) not in OFF_STATES:
            message = f"{self._spec.name} is {state}; its disk {action} only while it is off"
            raise InvalidStateError(message, hint=commands_for(("up", "stop"), self._spec.name))
