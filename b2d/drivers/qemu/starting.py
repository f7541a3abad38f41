"""The three ways in which a QEMU machine starts: from its saved state, from a template, or by a boot."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from b2d.drivers import control_port
from b2d.drivers.qemu import accelerator, command_line
from b2d.drivers.qemu.driver import QemuSettings
from b2d.drivers.qemu.launcher import Launcher, Start
from b2d.drivers.qemu.process import QemuProcess
from b2d.drivers.qemu.qmp import Qmp, QmpError
from b2d.drivers.qemu.saved_state import SavedState
from b2d.drivers.qemu.templates import Templates, key_of
from b2d.errors import B2dError, InvalidStateError, SavedStateError, WaitTimeoutError
from b2d.host.polling import wait_until
from b2d.machine_names import command_for
from b2d.models import HARDWARE, Image, MachineSpec
from b2d.paths import Home, MachinePaths

LOAD_S = 60.0  # for QEMU to write or read the state of a guest that holds
RELEASE_S = 30.0  # for a guest that continues to answer
INTERVAL_S = 0.005
RELEASED = "released"
UNLIMITED = 1 << 40  # bytes per second; QEMU's default is for a network
LOADING = ("inmigrate", "prelaunch")


@dataclass(frozen=True, slots=True)
class Starter:
    """The start of one machine that is off."""

    spec: MachineSpec
    paths: MachinePaths
    image: Callable[[], Image]
    settings: QemuSettings

    def launcher(self, hardware_before: Sequence[str] = ()) -> Launcher:
        """Return a launcher, with the hardware of an earlier start when that machine is to be resumed."""
        spec = command_line.spec_as_started(self.spec, hardware_before)
        chosen = (self.settings.accelerator, self.settings.mount_type)
        return Launcher(spec, self.paths, self.image, *chosen, hardware_before)

    def start(self) -> None:
        """Resume the saved state if it fits, else start from a template, else boot. Raises SavedStateError."""
        if self._saved.exists():
            if self._resume():
                return
            if self.spec.hardware < HARDWARE:
                command = command_for("up", self.spec.name)
                raise SavedStateError(f"{self.spec.name} cannot resume its saved state", hint=command)
        key = self._key()
        state = self._templates.find(key) if key else None
        if state is None:
            self.launcher().launch()
            return
        try:
            self._start_from(state)
        except (B2dError, OSError) as error:
            self._process.end()
            self.launcher().launch()  # it raises what has nothing to do with the template
            self._refuse(key, error.message if isinstance(error, B2dError) else str(error))

    def hold(self) -> bool:
        """Start a guest that will hold, where the machine could start from its state; False where it need not."""
        key = self._key()
        if not key or self._saved.exists() or self._templates.is_refused(key) or self._templates.find(key) is not None:
            return False
        self.launcher().launch(Start(held=True))
        return True

    def keep(self) -> None:
        """Store the state of the guest that holds, and end it. Raises B2dError and OSError."""
        key = self._key()
        with self._templates.add(key, self.spec.image) as descriptor, Qmp(self.paths.qmp_socket) as qmp:
            qmp.execute("stop")
            qmp.send_descriptor("state", descriptor)
            qmp.execute("migrate-set-parameters", max_bandwidth=UNLIMITED)
            qmp.execute("migrate", uri="fd:state")
            wait_until(lambda: _is_written(qmp), condition="the template", timeout_s=LOAD_S, interval_s=INTERVAL_S)
        if self._templates.find(key) is None:
            raise InvalidStateError(f"the setting templates ({self.settings.templates} MiB) leaves no space for one")
        self._process.end()

    def give_up(self, reason: str) -> None:
        """End the guest that holds or should, and try no template of this hardware for a day."""
        self._process.end()
        self._refuse(self._key(), reason)

    def _refuse(self, key: str, reason: str) -> None:
        with suppress(OSError):
            self._templates.refuse(key, reason)

    @property
    def _saved(self) -> SavedState:
        return SavedState(self.paths)

    @property
    def _process(self) -> QemuProcess:
        return QemuProcess(self.paths)

    @property
    def _templates(self) -> Templates:
        return Templates(Home(self.paths.home).templates, self.settings.templates)

    def _key(self) -> str:
        """Return the key of this machine's template; "" where it cannot have one."""
        image = self.image()
        devices = self.spec.has_control_port and control_port.is_possible(self.paths.line_socket)
        if not (self.settings.templates and devices and image.boots_directly):
            return ""
        try:
            return key_of(self.launcher().held_hardware(), image.sha256, accelerator.choose(self.settings.accelerator))
        except OSError:
            return ""

    def _start_from(self, state: Path) -> None:
        """Start from a template's state. Raises B2dError and OSError."""
        descriptor = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.launcher().launch(Start(("-incoming", f"fd:{descriptor}"), (descriptor,), from_template=True))
        finally:
            os.close(descriptor)
        self._release()

    def _release(self) -> None:
        """Wait until the state is loaded, and have the guest continue with this machine's identity."""
        with Qmp(self.paths.qmp_socket) as qmp:
            wait_until(
                lambda: qmp.execute("query-status", LOAD_S).get("status") not in LOADING,
                condition="the template",
                timeout_s=LOAD_S,
                interval_s=INTERVAL_S,
            )
            qmp.execute("cont")  # the state is of a machine that was halted
        control_port.ask(self.paths.line_socket, f"release {int(time.time())}", RELEASED, RELEASE_S)
        launch = self._process.launch()
        if launch is not None:
            self._process.record(launch._replace(holds=False))

    def _resume(self) -> bool:
        """Resume from the saved state; return False when it does not fit, and discard it then."""
        saved = self._saved.dependencies()
        launcher = self.launcher(saved.hardware if saved is not None else [])
        plan = launcher.plan()
        planned = command_line.normalize_hardware(plan.hardware)
        known = (command_line.normalize_hardware(saved.hardware), saved.image) if saved is not None else None
        if saved is not None and known == (planned, plan.image):
            launcher.launch(Start(("-S",)))
            if self._load(saved.qemu):
                return True
            self._process.end()
        self._saved.discard()
        return False

    def _load(self, version: str) -> bool:
        """Tell whether the waiting QEMU loaded the state and runs; if not, the next boot shows why."""
        try:
            with Qmp(self.paths.qmp_socket) as qmp:
                if qmp.version != version:
                    return False
                self._saved.load(qmp)
                self._saved.forget(qmp)
                qmp.execute("cont")
        except (QmpError, WaitTimeoutError):
            return False
        return True


def _is_written(qmp: Qmp) -> bool:
    """Tell whether QEMU has written the state. Raises InvalidStateError when it could not."""
    status = qmp.execute("query-migrate", LOAD_S)
    if not isinstance(status, dict) or status.get("status") in ("failed", "cancelled"):
        raise InvalidStateError(f"QEMU could not write the state: {status}")
    return status.get("status") == "completed"
