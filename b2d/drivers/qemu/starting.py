"""The three ways in which a QEMU machine starts: from its saved state, from a template, or by a boot.

There are two templates for the same hardware: of a guest that holds before it has a data disk, and, for new machines,
of one whose Docker runs on a new data disk.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from b2d.drivers import control_port
from b2d.drivers.qemu import accelerator, command_line, qcow2, qemu_img
from b2d.drivers.qemu.command_line import Held
from b2d.drivers.qemu.driver import QemuSettings
from b2d.drivers.qemu.launcher import Launcher, Start
from b2d.drivers.qemu.process import QemuProcess
from b2d.drivers.qemu.qmp import Qmp, QmpError
from b2d.drivers.qemu.saved_state import SavedState
from b2d.drivers.qemu.templates import Template, Templates, key_of
from b2d.errors import B2dError, InvalidStateError, SavedStateError, WaitTimeoutError
from b2d.guest import seed
from b2d.host.files import read_bounded
from b2d.host.polling import wait_until
from b2d.machine_names import command_for
from b2d.models import HARDWARE, Image, MachineSpec
from b2d.paths import Home, MachinePaths

LOAD_S = 60.0  # for QEMU to write or read the state of a guest that holds
RELEASE_S = 30.0  # for a guest that continues to answer
INTERVAL_S = 0.005
UNLIMITED = 1 << 40  # bytes per second; QEMU's default is for a network
BOTH = 2.5  # sizes of the first template that both may take: the second one has Docker's memory and a disk too
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
        refused: dict[str, str] = {}
        for key in reversed(self._keys()):
            if (template := self._templates.find(key)) is None:
                continue
            try:
                self._start_from(template)
                break
            except (B2dError, OSError) as error:
                self._process.end()
                refused[key] = _message(error)
        else:
            self.launcher().launch()  # it raises what has nothing to do with the templates
        for key, reason in refused.items():
            self._refuse(key, reason)

    def hold(self) -> bool:
        """Start a guest that will hold, where a template of it is missing; return False where none is."""
        key = self._missing()
        if not key or self._saved.exists():
            return False
        held = self._templates.find(self._keys()[0])
        if held is None:
            self.launcher().launch(Start(held=Held()))
            return True
        try:
            self._prepare(held)
        except (B2dError, OSError) as error:
            self.give_up(_message(error))
            return False
        return True

    def keep(self) -> None:
        """Store the state of the guest that holds, and end it. Raises B2dError and OSError."""
        key = self._missing()
        with self._templates.add(key, self.image().system) as draft:
            with Qmp(self.paths.qmp_socket) as qmp:
                qmp.execute("stop")
                qmp.send_descriptor("state", draft.state)
                qmp.execute("migrate-set-parameters", max_bandwidth=UNLIMITED)
                qmp.execute("migrate", uri="fd:state")
                wait_until(lambda: _is_written(qmp), condition="the template", timeout_s=LOAD_S, interval_s=INTERVAL_S)
            self._process.end()
            if self.paths.template_disk.exists():
                shutil.move(self.paths.template_disk, draft.disk)
        if self._templates.find(key) is None:
            raise InvalidStateError(f"the setting templates ({self.settings.templates} MiB) leaves no space for one")

    def give_up(self, reason: str) -> None:
        """End the guest that holds or should, and try no template like it for a day."""
        self._process.end()
        self.paths.template_disk.unlink(missing_ok=True)
        if key := self._missing():
            self._refuse(key, reason)

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

    def _keys(self) -> list[str]:
        """Return the keys of this machine's templates, the best last; none where it cannot have one."""
        image = self.image()
        devices = self.spec.has_control_port and control_port.is_possible(self.paths.line_socket)
        if not (self.settings.templates and devices and image.boots_directly):
            return []
        hardware = [self.launcher().held_hardware()]
        if self._has_new_disk():
            hardware.append([*hardware[0], f"disk={qcow2.read_size(self.paths.disk_qcow2)}"])
        chosen = accelerator.choose(self.settings.accelerator)
        try:
            return [key_of(arguments, image.system, chosen) for arguments in hardware]
        except OSError:
            return []

    def _has_new_disk(self) -> bool:
        """Tell whether no guest has used the data disk: it is as it was created."""
        try:
            payload = seed.payload(read_bounded(self.paths.ssh_public_key).decode())
        except (OSError, ValueError):
            return False
        return qcow2.contains_only(self.paths.disk_qcow2, payload)

    def _missing(self) -> str:
        """Return the key of the first template that this machine lacks and may have; "" if there is none.

        Where only one has room, it is the first: both would displace each other at every start.
        """
        room = self.settings.templates << 20
        for key in self._keys():
            if room < 0 or self._templates.is_refused(key):
                break
            if (template := self._templates.find(key)) is None:
                return key
            room -= int(BOTH * template.state.stat().st_size)
        return ""

    def _prepare(self, held: Template) -> None:
        """Start a guest from a template, and have it start Docker on a new disk. Raises B2dError and OSError."""
        disk = self.paths.template_disk
        disk.unlink(missing_ok=True)
        qemu_img.create(disk, qcow2.read_size(self.paths.disk_qcow2) // qemu_img.MIB, seed.MAGIC.encode())
        self._load_template(held, Start(held=Held(disk)))
        self._request("prepare")

    def _start_from(self, template: Template) -> None:
        """Start from a template. Raises B2dError and OSError."""
        if template.disk is not None:
            qemu_img.replace(self.paths.disk_qcow2, template.disk)
        self._load_template(template, Start(from_template=True))
        self._request("release")
        launch = self._process.launch()
        if launch is not None:
            self._process.record(launch._replace(holds=False))

    def _load_template(self, template: Template, start: Start) -> None:
        """Start QEMU with the state of a template, and wait until it has loaded it."""
        descriptor = os.open(template.state, os.O_RDONLY | os.O_CLOEXEC)
        try:
            incoming = ("-incoming", f"fd:{descriptor}")
            self.launcher().launch(start._replace(arguments=incoming, descriptors=(descriptor,)))
        finally:
            os.close(descriptor)
        with Qmp(self.paths.qmp_socket) as qmp:
            wait_until(
                lambda: qmp.execute("query-status", LOAD_S).get("status") not in LOADING,
                condition="the template",
                timeout_s=LOAD_S,
                interval_s=INTERVAL_S,
            )
            qmp.execute("cont")  # the state is of a machine that was halted

    def _request(self, request: str) -> None:
        """Have the guest that holds continue: `release` with this machine's identity, or `prepare` without any."""
        control_port.ask(self.paths.line_socket, f"{request} {int(time.time())}", f"{request}d", RELEASE_S)

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


def _message(error: B2dError | OSError) -> str:
    return error.message if isinstance(error, B2dError) else str(error)


def _is_written(qmp: Qmp) -> bool:
    """Tell whether QEMU has written the state. Raises InvalidStateError when it could not."""
    status = qmp.execute("query-migrate", LOAD_S)
    if not isinstance(status, dict) or status.get("status") in ("failed", "cancelled"):
        raise InvalidStateError(f"QEMU could not write the state: {status}")
    return status.get("status") == "completed"
