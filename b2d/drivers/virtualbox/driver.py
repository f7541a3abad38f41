"""Machines of VirtualBox: registered with its service under the settings file in the machine's own folder.

What is in that file is ours; a machine of the same name anywhere else is somebody else's, and is never touched. What
`b2d status` does not need is imported where it is used.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers.virtualbox import hardware, machine_state
from b2d.drivers.virtualbox.installation import SearchPaths
from b2d.errors import B2dError, HypervisorError, InvalidStateError, MachineNotFoundError
from b2d.host.files import os_errors_as_b2d_errors, private_folder, read_text_tail
from b2d.host.process_identity import identify
from b2d.host.signals import signals_deferred
from b2d.models import (
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
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.drivers.virtualbox.host_only_network import SecondCard
    from b2d.drivers.virtualbox.machine import VirtualBoxMachine


class VirtualBoxDriver:
    """Driver and all the abilities of ports.py for one machine; `vboxapi` is that setting."""

    def __init__(
        self,
        spec: MachineSpec,
        paths: MachinePaths,
        image: Callable[[], Image],
        vboxapi: str = "",
        places: SearchPaths | None = None,
    ) -> None:
        self._spec = spec
        self._paths = paths
        self._image = image
        self._setting = vboxapi
        self._places = places or SearchPaths()
        self._connected: VirtualBox | None = None

    def check(self) -> None:
        self._box()

    def create(self, payload: bytes) -> None:
        from b2d.drivers.virtualbox import lifecycle

        box = self._box()
        self._refuse_another(box)
        paths = self._paths
        with os_errors_as_b2d_errors(self._paths.folder):
            spared = frozenset({paths.disk_vdi} if paths.disk_vdi.exists() else ())  # with data, though nobody has it
            try:
                lifecycle.remove(box, paths, spared)  # what was begun
                private_folder(paths.virtualbox)
                box.create(
                    hardware.create_arguments(self._spec.name, str(paths.virtualbox_settings), box.api),
                    [*hardware.board(box.api), *hardware.of_spec(self._spec, str(paths.serial_log))],
                )
                if not spared:
                    box.create_disk(paths.disk_vdi, self._spec.disk_mib, payload)
                self._machine(box).edit(hardware.drives(), [(hardware.DATA_PORT, hardware.DISK, paths.disk_vdi)])
                paths.disk_vdi.chmod(0o600)
            except BaseException:
                with signals_deferred(), suppress(B2dError):
                    lifecycle.remove(box, paths, spared)
                raise

    def delete(self) -> None:
        from b2d.drivers.virtualbox import lifecycle

        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            try:
                box = self._box()
            except HypervisorError:
                if self._paths.virtualbox_settings.exists():
                    raise
                return  # without VirtualBox nothing was made
            lifecycle.remove(box, self._paths)

    def state(self) -> MachineState:
        settings = self._paths.virtualbox_settings
        try:
            vboxapi = self._places.vboxapi(self._setting)
        except HypervisorError:
            return machine_state.of_file(settings)
        machine = self._find(self._box(vboxapi))
        if machine is None:
            return self._unless_half_made(machine_state.of_file(settings))  # not in its list, it is still ours
        if trouble := machine.trouble():
            raise HypervisorError(
                f"VirtualBox cannot read the settings of {self._spec.name}: {trouble}",
                hint=f"b2d delete --vm {self._spec.name}",
            )
        from b2d.drivers.virtualbox import lifecycle

        return self._unless_half_made(lifecycle.true_state(machine))

    def start(self) -> None:
        from b2d.drivers.virtualbox.lifecycle import Start
        from b2d.network import port_allocation

        box, machine, state = self._existing()
        if state in ON_STATES and state != MachineState.PAUSED:
            raise InvalidStateError(f"{self._spec.name} is {state} already")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            if state == MachineState.PAUSED:
                machine.resume()
                return
            # VirtualBox would start it all the same, without the forward
            ports = {self._spec.ssh_port, self._spec.docker_port, self._spec.forwarded_docker_port}
            port_allocation.require_free(self._spec.address, sorted(ports))
            begun = Start(self._spec, self._paths, machine)
            if not (state == MachineState.SAVED and begun.resumes()):
                begun.boot(box, self._image().medium, self._second_card)

    def stop(self) -> None:
        machine, state = self._running()
        with signals_deferred():
            if state == MachineState.PAUSED:
                machine.resume()  # a guest that stands still would not notice
            machine.press_button()

    def kill(self) -> None:
        from b2d.drivers.virtualbox import lifecycle

        machine = self._find(self._box())
        if machine is not None:
            with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
                lifecycle.end(machine)

    def save(self) -> None:
        machine, _ = self._running()
        with signals_deferred():
            machine.save()

    def endpoint(self) -> Endpoint:
        machine, _ = self._running()
        rules = {name: (where, port) for name, where, port in machine.forwards()}
        try:
            where, ssh_port = rules[hardware.SSH_RULE]
            return Endpoint(where, ssh_port, rules[hardware.DOCKER_RULE][1])
        except KeyError as error:
            raise HypervisorError(
                f"the port forwards of {self._spec.name} were taken out in VirtualBox", hint="b2d restart"
            ) from error

    def process(self) -> ProcessIdentity | None:
        from b2d.drivers.virtualbox import lifecycle

        machine = self._find(self._box())
        if machine is None or lifecycle.true_state(machine) not in ON_STATES:
            return None
        pid = machine.pid()
        return None if pid is None else identify(pid)

    def effective_spec(self) -> MachineSpec | None:
        if self.state() not in ON_STATES:
            return None
        memory_mib, count = self._machine(self._box()).size()
        return replace(self._spec, memory_mib=memory_mib, cpus=count)

    def disk_mib(self) -> int:
        return self._box().disk_mib(self._paths.disk_vdi) if self._paths.disk_vdi.exists() else 0

    def grow_disk(self, size_mib: int) -> None:
        box = self._off("grows")
        if size_mib > self.disk_mib():
            with signals_deferred():
                box.grow_disk(self._paths.disk_vdi, size_mib)

    trims = False

    def disk_room(self) -> int:
        return machine_state.disk_room(self._paths)

    def compact_disk(self) -> None:
        with signals_deferred():
            self._off("is compacted").compact_disk(self._paths.disk_vdi)

    def snapshots(self) -> list[Snapshot]:
        return self._existing()[1].snapshots()

    def take_snapshot(self, name: str) -> None:
        with signals_deferred():
            self._existing()[1].take_snapshot(name)

    def restore_snapshot(self, name: str) -> None:
        _, machine, state = self._existing()
        if state in ON_STATES:
            raise InvalidStateError(f"{self._spec.name} is {state}, and its disk is in use", hint="b2d stop")
        with signals_deferred():
            machine.restore_snapshot(name)

    def delete_snapshot(self, name: str) -> None:
        with signals_deferred():
            self._existing()[1].delete_snapshot(name)

    def forwards(self) -> list[Forward]:
        from b2d.drivers.virtualbox import port_forwards

        return port_forwards.listed(self._running()[0])

    def forward_obstacle(self, forward: Forward) -> str:  # noqa: ARG002  there is none
        return ""

    def add_forward(self, forward: Forward) -> None:
        from b2d.drivers.virtualbox import port_forwards

        port_forwards.add(self._running()[0], forward)

    def remove_forward(self, forward: Forward) -> None:
        from b2d.drivers.virtualbox import port_forwards

        port_forwards.remove(self._running()[0], forward)

    def limitations(self) -> list[str]:
        found = []
        if self._spec.restrict:
            found.append("VirtualBox cannot shut the machine off from the network: it reaches what this host reaches")
        elif self.state() in OFF_STATES and (reason := self._second_card.reason):
            found.append(f"there is no network with this host alone, forwards do without: {reason}")
        return found

    def console(self) -> str:
        return read_text_tail(self._paths.serial_log)

    def screenshot(self) -> bytes:
        machine, _ = self._running()
        return machine.screenshot()

    @cached_property
    def _second_card(self) -> "SecondCard":
        from b2d.drivers.virtualbox.host_only_network import SecondCard, second_card

        if self._spec.restrict:
            return SecondCard(reason="the machine is to reach nothing")
        return second_card(self._box())

    def move_clock(self, seconds: int) -> None:
        from b2d.drivers import control_port

        control_port.move_clock(self._paths.line_socket, seconds)

    def _box(self, vboxapi: Path | None = None) -> "VirtualBox":
        found = vboxapi or self._places.vboxapi(self._setting)
        if self._connected is None:
            from b2d.drivers.virtualbox.client import VirtualBox

            self._connected = VirtualBox(found)
        return self._connected

    def _find(self, box: "VirtualBox") -> "VirtualBoxMachine | None":
        from b2d.drivers.virtualbox.machine import VirtualBoxMachine

        return VirtualBoxMachine.find(box, self._paths.virtualbox_settings)

    def _machine(self, box: "VirtualBox") -> "VirtualBoxMachine":
        from b2d.drivers.virtualbox.lifecycle import reregister

        settings = self._paths.virtualbox_settings
        machine = self._find(box)
        if machine is None and settings.exists():
            reregister(box, settings, self._paths.disk_vdi)
            machine = self._find(box)
        if machine is None:
            raise MachineNotFoundError(f"there is no machine {self._spec.name}", hint="b2d init")
        return machine

    def _unless_half_made(self, state: MachineState) -> MachineState:
        return MachineState.ABSENT if state in OFF_STATES and not self._paths.disk_vdi.exists() else state

    def _existing(self) -> "tuple[VirtualBox, VirtualBoxMachine, MachineState]":
        state = self.state()
        if state == MachineState.ABSENT:
            raise MachineNotFoundError(f"there is no machine {self._spec.name}", hint="b2d init")
        box = self._box()
        return box, self._machine(box), state

    def _off(self, what: str) -> "VirtualBox":
        box, _, state = self._existing()
        if state not in OFF_STATES:
            said = f"{self._spec.name} is {state}, and its disk {what} only while it is off"
            raise InvalidStateError(said, hint="b2d up && b2d stop")
        return box

    def _running(self) -> "tuple[VirtualBoxMachine, MachineState]":
        _, machine, state = self._existing()
        if state not in ON_STATES:
            raise InvalidStateError(f"{self._spec.name} is not running, it is {state}", hint="b2d start")
        return machine, state

    def _refuse_another(self, box: "VirtualBox") -> None:
        if self.state() != MachineState.ABSENT:
            raise InvalidStateError(f"there is a machine {self._spec.name} already", hint="b2d delete")
        other = box.other(self._spec.name)
        if other not in (None, str(self._paths.virtualbox_settings)):
            raise InvalidStateError(
                f"VirtualBox has a machine {self._spec.name} that is not b2d's: {other}", hint="b2d init --vm NAME"
            )
