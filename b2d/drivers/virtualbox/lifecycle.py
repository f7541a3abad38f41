"""Start, end, removal and registration of a VirtualBox machine."""

import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers.virtualbox import boot_config, hardware, machine_state
from b2d.drivers.virtualbox.calls import VirtualBoxError, translate_errors
from b2d.drivers.virtualbox.hardware import DISK, Constant, open_arguments
from b2d.drivers.virtualbox.machine import VirtualBoxMachine
from b2d.errors import B2dError, HypervisorError, SavedStateError
from b2d.host.file_removal import remove as remove_file
from b2d.host.file_removal import remove_own
from b2d.host.files import read_text_tail
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify, is_alive
from b2d.machine_names import command_for
from b2d.machine_store.own_files import VIRTUALBOX
from b2d.models import HARDWARE, ON_STATES, MachineSpec, MachineState
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.drivers.virtualbox.host_only_network import SecondCard

CRASH_SEEN = "b2d/crash-seen"  # extra data: time of the crash after which the machine was killed
END_S = 10.0
# the last: its serial port was a file of a folder that has moved
STATE_DOES_NOT_FIT = ("VERR_SSM", "saved state", "failed to create the raw output file")


@dataclass(frozen=True, slots=True)
class Start:
    """A start of a machine that is off or saved."""

    spec: MachineSpec
    paths: MachinePaths
    machine: VirtualBoxMachine

    def boot(self, client: "VirtualBox", iso: Path, card: "SecondCard") -> None:
        """Apply the spec, insert the image and the seed, and start the machine."""
        for path in (iso, self.paths.disk_vdi):
            if not path.is_file():
                raise B2dError(f"{self.spec.name} cannot start: {path} does not exist")
        boot_config.write_files(self.paths)
        self.machine.edit(
            [
                *boot_config.settings(self.spec, self.paths, self.machine),
                *boot_config.host_loopback(self.paths, client.api),
                *card.steps(),
            ],
            [(hardware.ISO_PORT, hardware.DVD, iso), (hardware.SEED_PORT, hardware.DVD, self.paths.virtualbox_seed)],
        )
        client.forget_media([iso.parent, self.paths.folder], [iso, self.paths.virtualbox_seed, self.paths.disk_vdi])
        self._launch()

    def resume(self) -> bool:
        """Resume from the saved state; return False when it does not fit, and discard it then."""
        self.machine.edit(boot_config.forwards(self.spec, self.machine))
        try:
            self._launch()
        except HypervisorError as error:
            if not any(sign in error.details for sign in STATE_DOES_NOT_FIT):
                raise
            self.machine.discard_saved()
            if self.spec.hardware < HARDWARE:
                message = f"{self.spec.name} cannot resume its saved state"
                raise SavedStateError(message, hint=command_for("up", self.spec.name)) from error
            return False
        return True

    def _launch(self) -> None:
        self.paths.virtualbox_log.unlink(missing_ok=True)
        try:
            self.machine.launch()
        except VirtualBoxError as error:
            reason = machine_state.last_error(self.paths.virtualbox_log) or error.message
            raise HypervisorError(
                f"VirtualBox cannot start {self.spec.name}: {reason.splitlines()[0]}",
                hint="b2d doctor",
                details=f"{error.details}\n{reason}",
            ) from error


def effective_state(machine: VirtualBoxMachine) -> MachineState:
    """Return the state that VirtualBox reports; a crash after which the machine was killed counts as stopped."""
    state = machine.state()
    if state == MachineState.CRASHED and machine.read_note(CRASH_SEEN) == machine.last_change():
        return MachineState.STOPPED
    return state


def power_off(machine: VirtualBoxMachine) -> None:
    """Cut the power, also of a process that does not answer."""
    if machine.state() in (*ON_STATES, MachineState.CRASHED) and machine.pid() is not None:
        try:
            machine.power_down()
        except HypervisorError:
            _end_process(machine)
    if machine.state() == MachineState.CRASHED:
        machine.write_note(CRASH_SEEN, machine.last_change())


def remove(client: "VirtualBox", paths: MachinePaths, spared: frozenset[Path] = frozenset()) -> None:
    """Remove the machine from VirtualBox and disk, except what is spared; a shared ISO stays."""
    machine = VirtualBoxMachine.find(client, paths.virtualbox_settings)
    isos: list[Path] = []
    if machine is not None:
        if not machine.access_error():
            power_off(machine)
            isos = machine.isos()
        machine.unregister(spared)
    client.forget_media([paths.folder, *isos])
    with suppress(NotADirectoryError):  # a file of that name is removed with the machine's folder
        remove_own(paths.virtualbox, VIRTUALBOX)
    for path in {paths.serial_log, paths.line_socket, paths.disk_vdi} - spared:
        remove_file(path)


def _end_process(machine: VirtualBoxMachine) -> None:
    pid = machine.pid()
    process = None if pid is None else identify(pid)
    if process is not None:
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(process), condition="VirtualBox's process to end", timeout_s=END_S)
    wait_until(lambda: machine.state() not in ON_STATES, condition="VirtualBox to see its end", timeout_s=END_S)


def reregister(client: "VirtualBox", settings: Path, disk: Path) -> None:
    """Register the machine of a settings file; its data disk is `disk`, wherever that was when the file was written."""
    with translate_errors():
        _unregister_moved(client, settings)
        opened = client.call("openMachine", *open_arguments(str(settings), client.api))
        client.call("registerMachine", opened)
        hard_disk = client.number(Constant("DeviceType", DISK))
        for attached in client.array("mediumAttachments", opened):
            if attached.type == hard_disk and attached.medium is not None:
                medium = attached.medium.base
                location = Path(str(medium.location))
                if location != disk and location.name == disk.name and not location.exists():
                    medium.location = str(disk)


def _unregister_moved(client: "VirtualBox", settings: Path) -> None:
    """Unregister the same machine under a settings file that is gone, which would be in the way."""
    match = re.search(r"<Machine\s[^<>]{0,10000}?uuid=\"\{([0-9a-fA-F-]{1,50})\}\"", read_text_tail(settings))
    uuid = match[1] if match else ""
    for machine in client.array("machines"):
        file = Path(str(machine.settingsFilePath))
        if str(machine.id) == uuid and not file.exists():
            library = client.pyvbox.library
            library.IMachine(machine).unregister(library.CleanupMode.detach_all_return_none)
            client.forget_media([file.parent.parent])
