"""Machines of QEMU: one process each, which outlives the terminal and is spoken to on its control socket.

What runs programs is imported where it is used: `b2d status` asks for the state alone, and is to be quick.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers.qemu_process import QemuProcess
from b2d.drivers.qemu_state import Dependencies, SavedState
from b2d.drivers.qmp import Qmp, QmpError
from b2d.errors import MachineAbsent, OutOfTime, WrongState
from b2d.files import refusals_told, text_of
from b2d.identity import is_alive
from b2d.interrupt import held_back
from b2d.layout import MachinePaths
from b2d.model import OFF, ON, Endpoint, Image, MachineSpec, MachineState, ProcessIdentity

if TYPE_CHECKING:
    from b2d.drivers.qemu_launch import Launcher

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
    """Driver and all the abilities of ports.py for one machine; `accelerator` is that setting."""

    def __init__(
        self, spec: MachineSpec, paths: MachinePaths, image: Callable[[], Image], accelerator: str = "auto"
    ) -> None:
        self._spec = spec
        self._paths = paths
        self._image = image
        self._accelerator = accelerator
        self._process = QemuProcess(paths)
        self._saved = SavedState(paths)

    def check(self) -> None:
        self._launcher().check()

    def create(self, payload: bytes) -> None:
        from b2d.drivers import qemu_disk

        self.check()
        with refusals_told(self._paths.folder):
            qemu_disk.create(self._paths.disk_qcow2, self._spec.disk_mib, payload)

    def delete(self) -> None:
        with held_back(), refusals_told(self._paths.folder):
            self._process.end()
            for path in (self._paths.qemu_saved, self._paths.serial_log):
                path.unlink(missing_ok=True)
            sockets = self._paths.qmp_socket.parent
            if sockets != self._paths.folder and sockets.exists():
                sockets.rmdir()
            self._paths.disk_qcow2.unlink(missing_ok=True)  # last: while it is there, so is the machine

    def state(self) -> MachineState:
        process = self._process.find()
        if process is not None:
            state = self._ask()
            if is_alive(process):
                return state
        if not self._paths.disk_qcow2.exists():
            return MachineState.ABSENT
        if self._saved.exists():
            return MachineState.SAVED
        return MachineState.CRASHED if self._process.left_behind() else MachineState.STOPPED

    def start(self) -> None:
        state = self._existing()
        if state in (MachineState.RUNNING, MachineState.STOPPING):
            raise WrongState(f"{self._spec.name} is {state} already")
        with held_back(), refusals_told(self._paths.folder):
            if state == MachineState.PAUSED:
                self._go_on()
                return
            self._process.end()  # one that crashed, or that a b2d which was cut off did not see started
            if not (self._saved.exists() and self._resume()):
                self._launcher().launch()

    def stop(self) -> None:
        if self._running() == MachineState.PAUSED:
            with held_back(), refusals_told(self._paths.folder):
                self._go_on()  # a guest that stands still would not notice
        with Qmp(self._paths.qmp_socket) as qmp:
            qmp.execute("system_powerdown")

    def kill(self) -> None:
        with held_back(), refusals_told(self._paths.folder):
            self._process.end()

    def save(self) -> None:
        self._running()
        launch = self._process.launch()
        if launch is None:
            raise WrongState(f"how {self._spec.name} was started is not known any more", hint="b2d stop")
        with held_back(), refusals_told(self._paths.folder):
            with Qmp(self._paths.qmp_socket) as qmp:
                self._saved.save(qmp, Dependencies(qmp.version, launch.hardware, launch.image))
            self._process.end()

    def endpoint(self) -> Endpoint:
        self._running()
        launch = self._process.launch()
        return launch.endpoint if launch is not None else self._launcher().plan().endpoint

    def process(self) -> ProcessIdentity | None:
        return self._process.find()

    def measured(self) -> MachineSpec | None:
        launch = self._process.launch() if self._process.find() else None
        if launch is None:
            return None
        from b2d.drivers.qemu_arguments import as_started

        return as_started(self._spec, launch.hardware)

    def disk_mib(self) -> int:
        from b2d.drivers import qcow2

        return qcow2.size(self._paths.disk_qcow2) >> 20

    def grow_disk(self, size_mib: int) -> None:
        from b2d.drivers import qemu_disk

        if (state := self._existing()) not in OFF:
            said = f"{self._spec.name} is {state}, and its disk grows only while it is off"
            raise WrongState(said, hint="b2d up && b2d stop")
        with held_back(), refusals_told(self._paths.folder):
            qemu_disk.grow(self._paths.disk_qcow2, size_mib)

    def compromises(self) -> list[str]:
        return self._launcher().compromises()

    def console(self) -> str:
        return text_of(self._paths.serial_log)

    def screenshot(self) -> bytes:
        self._running()
        from tempfile import TemporaryDirectory

        folder = self._paths.folder
        with refusals_told(folder), TemporaryDirectory(dir=folder, prefix=".screen-") as work:
            picture = Path(work) / "screen.png"
            with Qmp(self._paths.qmp_socket) as qmp:
                qmp.execute("screendump", filename=str(picture), format="png")  # as PNG since QEMU 7.1
            return picture.read_bytes()

    def _launcher(self, as_before: Sequence[str] = ()) -> "Launcher":
        """What starts it, with the memory and CPUs of an earlier start where that one is to go on."""
        from b2d.drivers import qemu_arguments
        from b2d.drivers.qemu_launch import Launcher

        spec = qemu_arguments.as_started(self._spec, as_before)
        return Launcher(spec, self._paths, self._image, self._accelerator)

    def _ask(self) -> MachineState:
        """What QEMU says; a process that lives and does not answer has the disk, so it counts as running."""
        try:
            with Qmp(self._paths.qmp_socket) as qmp:
                return STATES.get(qmp.execute("query-status")["status"], MachineState.STARTING)
        except (QmpError, KeyError, TypeError):
            return MachineState.RUNNING

    def _existing(self) -> MachineState:
        state = self.state()
        if state == MachineState.ABSENT:
            raise MachineAbsent(f"there is no machine {self._spec.name}", hint="b2d init")
        return state

    def _running(self) -> MachineState:
        state = self._existing()
        if state not in ON:
            raise WrongState(f"{self._spec.name} is not running, it is {state}", hint="b2d start")
        return state

    def _go_on(self) -> None:
        """From paused. A save that was cut off at its end left a state: it is void from here on."""
        with Qmp(self._paths.qmp_socket) as qmp:
            if self._saved.exists():
                self._saved.forget(qmp)
            qmp.execute("cont")

    def _resume(self) -> bool:
        """Go on from the saved state; False when it does not fit, and is no more."""
        kept = self._saved.dependencies()
        launcher = self._launcher(kept.hardware if kept is not None else [])
        plan = launcher.plan()
        if kept is not None and (kept.hardware, kept.image) == (plan.hardware, plan.image):
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
        except (QmpError, OutOfTime):
            return False
        return True
