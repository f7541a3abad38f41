"""VirtualBox's driver: machines are registered by the settings file in their own folder.

The machine of that file is b2d's; a machine of the same name anywhere else is foreign, and is never touched. Modules
that `b2d status` does not need are imported where they are used.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers.virtualbox import hardware, machine_state
from b2d.drivers.virtualbox.installation import SearchPaths
from b2d.errors import B2dError, HypervisorError, InvalidStateError, MachineNotFoundError
from b2d.host.files import os_errors_as_b2d_errors, private_folder, read_text_tail
from b2d.host.process_identity import identify
from b2d.host.signals import signals_deferred
from b2d.machine_names import command_for, commands_for
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
    """The driver of one VirtualBox machine; `vboxapi` and `uncompressed_boot` are those settings."""

    def __init__(
        self,
        spec: MachineSpec,
        paths: MachinePaths,
        image: Callable[[], Image],
        vboxapi: str = "",
        search_paths: SearchPaths | None = None,
        *,
        uncompressed_boot: bool = True,
    ) -> None:
        """Bind the driver to a machine."""
        self._spec = spec
        self._paths = paths
        self._image = image
        self._setting = vboxapi
        self._uncompressed_boot = uncompressed_boot
        self._search_paths = search_paths or SearchPaths()
        self._connection: VirtualBox | None = None

    def check(self) -> None:
        """Raise HypervisorError unless a machine could start on this host."""
        self._client()

    def create(self, payload: bytes) -> None:
        """Create the machine and its data disk."""
        from b2d.drivers.virtualbox import lifecycle

        client = self._client()
        self._refuse_other_machine(client)
        paths = self._paths
        with os_errors_as_b2d_errors(self._paths.folder):
            # an existing disk holds data, although no machine uses it
            spared = frozenset({paths.disk_vdi} if paths.disk_vdi.exists() else ())
            try:
                lifecycle.remove(client, paths, spared)  # an interrupted creation
                private_folder(paths.virtualbox)
                client.create(
                    hardware.create_arguments(self._spec.name, str(paths.virtualbox_settings), client.api),
                    [*hardware.board(client.api), *hardware.spec_settings(self._spec, str(paths.serial_log))],
                )
                if not spared:
                    client.create_disk(paths.disk_vdi, self._spec.disk_mib, payload)
                self._machine(client).edit(hardware.drives(), [(hardware.DATA_PORT, hardware.DISK, paths.disk_vdi)])
                paths.disk_vdi.chmod(0o600)
            except BaseException:
                with signals_deferred(), suppress(B2dError):
                    lifecycle.remove(client, paths, spared)
                raise

    def delete(self) -> None:
        """Remove the machine and its disk."""
        from b2d.drivers.virtualbox import lifecycle

        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            try:
                client = self._client()
            except HypervisorError:
                if self._paths.virtualbox_settings.exists():
                    raise
                return  # without VirtualBox there is no machine
            lifecycle.remove(client, self._paths)

    def state(self) -> MachineState:
        """Return the machine's state."""
        settings = self._paths.virtualbox_settings
        try:
            vboxapi = self._search_paths.vboxapi(self._setting)
        except HypervisorError:
            return machine_state.read_state_file(settings)
        machine = self._find(self._client(vboxapi))
        if machine is None:
            # not in VirtualBox's list, but still b2d's
            return self._absent_without_disk(machine_state.read_state_file(settings))
        if access_error := machine.access_error():
            raise HypervisorError(
                f"VirtualBox cannot read the settings of {self._spec.name}: {access_error}",
                hint=command_for("delete", self._spec.name),
            )
        from b2d.drivers.virtualbox import lifecycle

        return self._absent_without_disk(lifecycle.effective_state(machine))

    def start(self) -> None:
        """Boot the machine, or resume it from paused or saved."""
        from b2d.drivers.virtualbox.lifecycle import Start
        from b2d.network import port_allocation

        client, machine, state = self._require_existing()
        if state in ON_STATES and state != MachineState.PAUSED:
            raise InvalidStateError(f"{self._spec.name} is {state} already")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            if state == MachineState.PAUSED:
                machine.resume()
                return
            # VirtualBox would start it without the forward
            ports = {self._spec.ssh_port, self._spec.docker_port, self._spec.forwarded_docker_port}
            port_allocation.require_free(self._spec.address, sorted(ports))
            start = Start(self._spec, self._paths, machine)
            if not (state == MachineState.SAVED and start.resume()):
                image = self._image()
                start.boot(client, image.medium if self._uncompressed_boot else image.iso, self._second_card)

    def stop(self) -> None:
        """Press the power button."""
        machine, state = self._require_running()
        with signals_deferred():
            if state == MachineState.PAUSED:
                machine.resume()  # a paused guest would not notice
            machine.press_button()

    def kill(self) -> None:
        """Cut the power."""
        from b2d.drivers.virtualbox import lifecycle

        machine = self._find(self._client())
        if machine is not None:
            with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
                lifecycle.power_off(machine)

    def save(self) -> None:
        """Write the state to disk and end the machine."""
        machine, _ = self._require_running()
        with signals_deferred():
            machine.save()

    def endpoint(self) -> Endpoint:
        """Return the addresses of the machine's ports."""
        machine, _ = self._require_running()
        rules = {name: (address, port) for name, address, port in machine.forwards()}
        try:
            address, ssh_port = rules[hardware.SSH_RULE]
            return Endpoint(address, ssh_port, rules[hardware.DOCKER_RULE][1])
        except KeyError as error:
            raise HypervisorError(
                f"the port forwards of {self._spec.name} were removed in VirtualBox",
                hint=command_for("restart", self._spec.name),
            ) from error

    def process(self) -> ProcessIdentity | None:
        """Return the machine's process."""
        from b2d.drivers.virtualbox import lifecycle

        machine = self._find(self._client())
        if machine is None or lifecycle.effective_state(machine) not in ON_STATES:
            return None
        pid = machine.pid()
        return None if pid is None else identify(pid)

    def effective_spec(self) -> MachineSpec | None:
        """Return the spec with the memory and CPUs of the running machine."""
        if self.state() not in ON_STATES:
            return None
        memory_mib, count = self._machine(self._client()).size()
        return self._spec._replace(memory_mib=memory_mib, cpus=count)

    def disk_mib(self) -> int:
        """Return the size of the data disk in MiB."""
        return self._client().disk_mib(self._paths.disk_vdi) if self._paths.disk_vdi.exists() else 0

    def grow_disk(self, size_mib: int) -> None:
        """Enlarge the data disk."""
        client = self._require_off("grows")
        if size_mib > self.disk_mib():
            with signals_deferred():
                client.grow_disk(self._paths.disk_vdi, size_mib)

    trims = False

    def disk_room(self) -> int:
        """Return the bytes that the data disk takes on this host."""
        return machine_state.disk_room(self._paths)

    def compact_disk(self) -> None:
        """Return blocks of zeros to the host."""
        with signals_deferred():
            self._require_off("is compacted").compact_disk(self._paths.disk_vdi)

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots, the oldest first."""
        return self._require_existing()[1].snapshots()

    def take_snapshot(self, name: str) -> None:
        """Take a snapshot of the data disk."""
        with signals_deferred():
            self._require_existing()[1].take_snapshot(name)

    def restore_snapshot(self, name: str) -> None:
        """Restore the data disk from a snapshot."""
        _, machine, state = self._require_existing()
        if state in ON_STATES:
            raise InvalidStateError(
                f"{self._spec.name} is {state}, and its disk is in use", hint=command_for("stop", self._spec.name)
            )
        with signals_deferred():
            machine.restore_snapshot(name)

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot."""
        with signals_deferred():
            self._require_existing()[1].delete_snapshot(name)

    def forwards(self) -> list[Forward]:
        """Return the port forwards except for the machine's own two."""
        from b2d.drivers.virtualbox import port_forwards

        return port_forwards.list_forwards(self._require_running()[0])

    def forward_obstacle(self, forward: Forward) -> str:  # noqa: ARG002  it can always be tried
        """Return the reason why a port can never be forwarded."""
        return ""

    def add_forward(self, forward: Forward) -> None:
        """Forward a port of this host into the guest."""
        from b2d.drivers.virtualbox import port_forwards

        port_forwards.add_forward(self._require_running()[0], forward)

    def remove_forward(self, forward: Forward) -> None:
        """Stop forwarding a port."""
        from b2d.drivers.virtualbox import port_forwards

        port_forwards.remove_forward(self._require_running()[0], forward)

    def limitations(self) -> list[str]:
        """Return the differences between the spec and what start would do."""
        lines = []
        if self._spec.restrict:
            lines.append("VirtualBox cannot restrict the network: the machine reaches all that this host reaches")
        elif self.state() in OFF_STATES and (reason := self._second_card.reason):
            lines.append(f"the machine has no host-only network, which port forwards do not need: {reason}")
        return lines

    def console(self) -> str:
        """Return the output of the serial console."""
        return read_text_tail(self._paths.serial_log)

    def screenshot(self) -> bytes:
        """Return the screen as a PNG."""
        machine, _ = self._require_running()
        return machine.screenshot()

    @cached_property
    def _second_card(self) -> "SecondCard":
        from b2d.drivers.virtualbox.host_only_network import SecondCard, second_card

        if self._spec.restrict:
            return SecondCard(reason="the network is restricted")
        return second_card(self._client())

    def move_clock(self, seconds: int) -> None:
        """Move the guest's clock through its control port."""
        from b2d.drivers import control_port

        control_port.move_clock(self._paths.line_socket, seconds)

    def _client(self, vboxapi: Path | None = None) -> "VirtualBox":
        folder = vboxapi or self._search_paths.vboxapi(self._setting)
        if self._connection is None:
            from b2d.drivers.virtualbox.client import VirtualBox

            self._connection = VirtualBox(folder)
        return self._connection

    def _find(self, client: "VirtualBox") -> "VirtualBoxMachine | None":
        from b2d.drivers.virtualbox.machine import VirtualBoxMachine

        return VirtualBoxMachine.find(client, self._paths.virtualbox_settings)

    def _machine(self, client: "VirtualBox") -> "VirtualBoxMachine":
        from b2d.drivers.virtualbox.lifecycle import reregister

        settings = self._paths.virtualbox_settings
        machine = self._find(client)
        if machine is None and settings.exists():
            reregister(client, settings, self._paths.disk_vdi)
            machine = self._find(client)
        if machine is None:
            raise MachineNotFoundError(
                f"there is no machine {self._spec.name}", hint=command_for("init", self._spec.name)
            )
        return machine

    def _absent_without_disk(self, state: MachineState) -> MachineState:
        return MachineState.ABSENT if state in OFF_STATES and not self._paths.disk_vdi.exists() else state

    def _require_existing(self) -> "tuple[VirtualBox, VirtualBoxMachine, MachineState]":
        state = self.state()
        if state == MachineState.ABSENT:
            raise MachineNotFoundError(
                f"there is no machine {self._spec.name}", hint=command_for("init", self._spec.name)
            )
        client = self._client()
        return client, self._machine(client), state

    def _require_off(self, action: str) -> "VirtualBox":
        client, _, state = self._require_existing()
        if state not in OFF_STATES:
            message = f"{self._spec.name} is {state}; its disk {action} only while it is off"
            raise InvalidStateError(message, hint=commands_for(("up", "stop"), self._spec.name))
        return client

    def _require_running(self) -> "tuple[VirtualBoxMachine, MachineState]":
        _, machine, state = self._require_existing()
        if state not in ON_STATES:
            raise InvalidStateError(
                f"{self._spec.name} is not running, it is {state}", hint=command_for("up", self._spec.name)
            )
        return machine, state

    def _refuse_other_machine(self, client: "VirtualBox") -> None:
        if self.state() != MachineState.ABSENT:
            raise InvalidStateError(
                f"there is a machine {self._spec.name} already", hint=command_for("delete", self._spec.name)
            )
        other = client.find_settings(self._spec.name)
        if other not in (None, str(self._paths.virtualbox_settings)):
            raise InvalidStateError(
                f"VirtualBox has another machine named {self._spec.name}: {other}", hint="b2d init --vm NAME"
            )
