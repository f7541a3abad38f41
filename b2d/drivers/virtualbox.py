"""Machines of VirtualBox: registered with its service under the settings file in the machine's own folder.

What is in that file is ours; a machine of the same name anywhere else is somebody else's, and is never touched. What
`b2d status` does not need is imported where it is used.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers import virtualbox_hardware as hardware
from b2d.drivers import virtualbox_state
from b2d.drivers.virtualbox_end import OFF, ON, end, true_state
from b2d.drivers.virtualbox_errors import Refused
from b2d.drivers.virtualbox_find import Places
from b2d.errors import B2dError, HypervisorUnusable, MachineAbsent, WrongState
from b2d.files import private_folder, text_of
from b2d.identity import identify
from b2d.interrupt import held_back
from b2d.layout import MachinePaths
from b2d.model import Endpoint, Image, MachineSpec, MachineState, ProcessIdentity

if TYPE_CHECKING:
    from b2d.drivers.virtualbox_api import VirtualBox
    from b2d.drivers.virtualbox_machine import BoxMachine
    from b2d.drivers.virtualbox_network import SecondCard

STATE_DOES_NOT_FIT = ("VERR_SSM", "saved state")


class VirtualBoxDriver:
    """Driver and all the abilities of ports.py for one machine; `vboxapi` is that setting."""

    def __init__(
        self,
        spec: MachineSpec,
        paths: MachinePaths,
        image: Callable[[], Image],
        vboxapi: str = "",
        places: Places | None = None,
    ) -> None:
        self._spec = spec
        self._paths = paths
        self._image = image
        self._setting = vboxapi
        self._places = places or Places()
        self._connected: VirtualBox | None = None

    def check(self) -> None:
        self._box()

    def create(self, payload: bytes) -> None:
        box = self._box()
        self._refuse_another(box)
        settings = self._paths.virtualbox_settings
        with _edge():
            try:
                private_folder(settings.parent)
                box.create(
                    hardware.create_arguments(self._spec.name, str(settings), box.api),
                    [*hardware.board(box.api), *hardware.of_spec(self._spec, str(self._paths.serial_log))],
                )
                box.create_disk(self._paths.disk_vdi, self._spec.disk_mib, payload)
                self._machine(box).edit(hardware.drives(), [(hardware.DATA_PORT, hardware.DISK, self._paths.disk_vdi)])
                self._paths.disk_vdi.chmod(0o600)
            except BaseException:
                with held_back(), suppress(B2dError):
                    self._remove(box)
                raise

    def delete(self) -> None:
        with held_back(), _edge():
            try:
                box = self._box()
            except HypervisorUnusable:
                if self._paths.virtualbox_settings.exists():
                    raise
                return  # without VirtualBox nothing was made
            self._remove(box)

    def state(self) -> MachineState:
        settings = self._paths.virtualbox_settings
        try:
            vboxapi = self._places.vboxapi(self._setting)
        except HypervisorUnusable:
            return virtualbox_state.of_file(settings)
        machine = self._box(vboxapi).machine(settings)
        if machine is None:
            return MachineState.ABSENT
        if trouble := machine.trouble():
            raise HypervisorUnusable(
                f"VirtualBox cannot read the settings of {self._spec.name}: {trouble}",
                hint=f"b2d delete --vm {self._spec.name}",
            )
        return true_state(machine)

    def start(self) -> None:
        from b2d import address

        box, machine, state = self._existing()
        if state in ON and state != MachineState.PAUSED:
            raise WrongState(f"{self._spec.name} is {state} already")
        with held_back(), _edge():
            if state == MachineState.PAUSED:
                machine.resume()
                return
            # VirtualBox would start it all the same, without the forward
            address.refuse_taken(self._spec.address, (self._spec.ssh_port, self._spec.docker_port))
            if state == MachineState.SAVED and self._resume(machine):
                return
            self._boot(box, machine)

    def stop(self) -> None:
        machine, state = self._running()
        with held_back():
            if state == MachineState.PAUSED:
                machine.resume()  # a guest that stands still would not notice
            machine.press_button()

    def kill(self) -> None:
        machine = self._box().machine(self._paths.virtualbox_settings)
        if machine is not None:
            with held_back(), _edge():
                end(machine)

    def save(self) -> None:
        machine, _ = self._running()
        with held_back():
            machine.save()

    def endpoint(self) -> Endpoint:
        machine, _ = self._running()
        rules = {name: (where, port) for name, where, port in machine.forwards()}
        try:
            where, ssh_port = rules[hardware.SSH_RULE]
            return Endpoint(where, ssh_port, rules[hardware.DOCKER_RULE][1])
        except KeyError as error:
            raise HypervisorUnusable(
                f"the port forwards of {self._spec.name} were taken out in VirtualBox", hint="b2d restart"
            ) from error

    def process(self) -> ProcessIdentity | None:
        machine = self._box().machine(self._paths.virtualbox_settings)
        if machine is None or true_state(machine) not in ON:
            return None
        pid = machine.pid()
        return None if pid is None else identify(pid)

    def measured(self) -> MachineSpec | None:
        if self.state() not in ON:
            return None
        memory_mib, count = self._machine(self._box()).size()
        return replace(self._spec, memory_mib=memory_mib, cpus=count)

    def disk_mib(self) -> int:
        return self._box().disk_mib(self._paths.disk_vdi) if self._paths.disk_vdi.exists() else 0

    def grow_disk(self, size_mib: int) -> None:
        box, _, state = self._existing()
        if state not in OFF:
            said = f"{self._spec.name} is {state}, and its disk grows only while it is off"
            raise WrongState(said, hint="b2d up && b2d stop")
        if size_mib > self.disk_mib():
            with held_back():
                box.grow_disk(self._paths.disk_vdi, size_mib)

    def compromises(self) -> list[str]:
        found = []
        if self._spec.restrict:
            found.append("VirtualBox cannot shut the machine off from the network: it reaches what this host reaches")
        elif self.state() in OFF and (reason := self._second_card.reason):
            found.append(f"there is no network with this host alone, forwards do without: {reason}")
        return found

    def console(self) -> str:
        return text_of(self._paths.serial_log)

    def screenshot(self) -> bytes:
        machine, _ = self._running()
        return machine.screenshot()

    @cached_property
    def _second_card(self) -> "SecondCard":
        from b2d.drivers.virtualbox_network import SecondCard, second_card

        if self._spec.restrict:
            return SecondCard(reason="the machine is to reach nothing")
        return second_card(self._box())

    def move_clock(self, seconds: int) -> None:
        from b2d.drivers import virtualbox_line

        virtualbox_line.move_clock(self._paths.line_socket, seconds)

    def _box(self, vboxapi: Path | None = None) -> "VirtualBox":
        found = vboxapi or self._places.vboxapi(self._setting)
        if self._connected is None:
            from b2d.drivers.virtualbox_api import VirtualBox

            self._connected = VirtualBox(found)
        return self._connected

    def _machine(self, box: "VirtualBox") -> "BoxMachine":
        machine = box.machine(self._paths.virtualbox_settings)
        if machine is None:
            raise MachineAbsent(f"there is no machine {self._spec.name}", hint="b2d init")
        return machine

    def _existing(self) -> "tuple[VirtualBox, BoxMachine, MachineState]":
        state = self.state()
        if state == MachineState.ABSENT:
            raise MachineAbsent(f"there is no machine {self._spec.name}", hint="b2d init")
        box = self._box()
        return box, self._machine(box), state

    def _running(self) -> "tuple[BoxMachine, MachineState]":
        _, machine, state = self._existing()
        if state not in ON:
            raise WrongState(f"{self._spec.name} is not running, it is {state}", hint="b2d start")
        return machine, state

    def _refuse_another(self, box: "VirtualBox") -> None:
        if box.machine(self._paths.virtualbox_settings) is not None or self._paths.disk_vdi.exists():
            raise WrongState(f"there is a machine {self._spec.name} already", hint="b2d delete")
        other = box.other(self._spec.name)
        if other is not None:
            raise WrongState(
                f"VirtualBox has a machine {self._spec.name} that is not b2d's: {other}", hint="b2d init --vm NAME"
            )

    def _boot(self, box: "VirtualBox", machine: "BoxMachine") -> None:
        """Give it what the spec says now, and the image, and a seed; then start it."""
        from b2d.drivers import virtualbox_boot

        iso = self._image().medium
        for path in (iso, self._paths.disk_vdi):
            if not path.is_file():
                raise B2dError(f"{path} is gone, {self._spec.name} cannot start without it")
        virtualbox_boot.write_files(self._paths)
        machine.edit(
            [*virtualbox_boot.settings(self._spec, self._paths, machine), *self._second_card.steps()],
            [(hardware.ISO_PORT, hardware.DVD, iso), (hardware.SEED_PORT, hardware.DVD, self._paths.virtualbox_seed)],
        )
        box.forget_media([iso.parent, self._paths.folder])
        self._launch(machine)

    def _resume(self, machine: "BoxMachine") -> bool:
        """Go on from the saved state; False when it does not fit, and is no more."""
        from b2d.drivers import virtualbox_boot

        machine.edit(virtualbox_boot.forwards(self._spec, machine))
        try:
            self._launch(machine)
        except HypervisorUnusable as error:
            if not any(sign in error.details for sign in STATE_DOES_NOT_FIT):
                raise
            machine.discard_saved()
            return False
        return True

    def _launch(self, machine: "BoxMachine") -> None:
        self._paths.virtualbox_log.unlink(missing_ok=True)
        try:
            machine.launch()
        except Refused as refused:
            said = virtualbox_state.last_error(self._paths.virtualbox_log) or refused.message
            raise HypervisorUnusable(
                f"VirtualBox does not start {self._spec.name}: {said.splitlines()[0]}",
                hint="b2d doctor",
                details=f"{refused.details}\n{said}",
            ) from refused

    def _remove(self, box: "VirtualBox") -> None:
        """Whatever there is of the machine, in VirtualBox and on disk; a shared ISO stays."""
        import shutil

        machine = box.machine(self._paths.virtualbox_settings)
        isos: list[Path] = []
        if machine is not None:
            if not machine.trouble():
                end(machine)
                isos = machine.isos()
            machine.unregister()
        box.forget_media([self._paths.folder, *isos])
        shutil.rmtree(self._paths.virtualbox, ignore_errors=True)
        for path in (self._paths.serial_log, self._paths.line_socket, self._paths.disk_vdi):
            path.unlink(missing_ok=True)


@contextmanager
def _edge() -> Iterator[None]:
    """What the file system refuses, in a sentence."""
    try:
        yield
    except OSError as error:
        raise B2dError(f"{error.filename or 'a file of the machine'}: {error.strerror or error}") from error
