"""Start, end, remove and register a machine of VirtualBox."""

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
from b2d.machine_store.own_files import VIRTUALBOX
from b2d.models import HARDWARE, ON_STATES, MachineSpec, MachineState
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.drivers.virtualbox.host_only_network import SecondCard

CRASH_SEEN = "b2d/crash-seen"  # when the machine's state changed last, once a kill has dealt with a crash
END_S = 10.0
# the last: its serial port was a file of a folder that lies somewhere else now
STATE_DOES_NOT_FIT = ("VERR_SSM", "saved state", "failed to create the raw output file")


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one machine, which is off or saved."""

    spec: MachineSpec
    paths: MachinePaths
    machine: VirtualBoxMachine

    def boot(self, box: "VirtualBox", iso: Path, card: "SecondCard") -> None:
        """Give it what the spec says now, and the image, and a seed; then start it."""
        for path in (iso, self.paths.disk_vdi):
            if not path.is_file():
                raise B2dError(f"{path} is gone, {self.spec.name} cannot start without it")
        boot_config.write_files(self.paths)
        self.machine.edit(
            [
                *boot_config.settings(self.spec, self.paths, self.machine),
                *boot_config.host_loopback(self.paths, box.api),
                *card.steps(),
            ],
            [(hardware.ISO_PORT, hardware.DVD, iso), (hardware.SEED_PORT, hardware.DVD, self.paths.virtualbox_seed)],
        )
        box.forget_media([iso.parent, self.paths.folder], [iso, self.paths.virtualbox_seed, self.paths.disk_vdi])
        self._launch()

    def resumes(self) -> bool:
        """Go on from the saved state; False when it does not fit, and is no more."""
        self.machine.edit(boot_config.forwards(self.spec, self.machine))
        try:
            self._launch()
        except HypervisorError as error:
            if not any(sign in error.details for sign in STATE_DOES_NOT_FIT):
                raise
            self.machine.discard_saved()
            if self.spec.hardware < HARDWARE:
                raise SavedStateError(
                    f"the saved state of {self.spec.name} does not fit any more", hint="b2d up"
                ) from error
            return False
        return True

    def _launch(self) -> None:
        self.paths.virtualbox_log.unlink(missing_ok=True)
        try:
            self.machine.launch()
        except VirtualBoxError as refused:
            said = machine_state.last_error(self.paths.virtualbox_log) or refused.message
            raise HypervisorError(
                f"VirtualBox does not start {self.spec.name}: {said.splitlines()[0]}",
                hint="b2d doctor",
                details=f"{refused.details}\n{said}",
            ) from refused


def true_state(machine: VirtualBoxMachine) -> MachineState:
    """What VirtualBox says; a crash that a kill has dealt with is none any more."""
    state = machine.state()
    if state == MachineState.CRASHED and machine.note(CRASH_SEEN) == machine.last_change():
        return MachineState.STOPPED
    return state


def end(machine: VirtualBoxMachine) -> None:
    """Cut the power, also of a process that answers nobody."""
    if machine.state() in (*ON_STATES, MachineState.CRASHED) and machine.pid() is not None:
        try:
            machine.power_down()
        except HypervisorError:
            _end_process(machine)
    if machine.state() == MachineState.CRASHED:
        machine.write_note(CRASH_SEEN, machine.last_change())


def remove(box: "VirtualBox", paths: MachinePaths, spared: frozenset[Path] = frozenset()) -> None:
    """Whatever there is of the machine, in VirtualBox and on disk, but what is spared; a shared ISO stays."""
    machine = VirtualBoxMachine.find(box, paths.virtualbox_settings)
    isos: list[Path] = []
    if machine is not None:
        if not machine.trouble():
            end(machine)
            isos = machine.isos()
        machine.unregister(spared)
    box.forget_media([paths.folder, *isos])
    with suppress(NotADirectoryError):  # something else of that name goes with the machine's folder
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


def reregister(box: "VirtualBox", settings: Path, disk: Path) -> None:
    """Register the machine of that settings file; its data disk is `disk`, wherever that was when it was written."""
    with translate_errors():
        _forget_where_it_was(box, settings)
        opened = box.call("openMachine", *open_arguments(str(settings), box.api))
        box.call("registerMachine", opened)
        hard_disk = box.number(Constant("DeviceType", DISK))
        for attached in box.array("mediumAttachments", opened):
            if attached.type == hard_disk and attached.medium is not None:
                medium = attached.medium.base
                there = Path(str(medium.location))
                if there != disk and there.name == disk.name and not there.exists():
                    medium.location = str(disk)


def _forget_where_it_was(box: "VirtualBox", settings: Path) -> None:
    """The same machine in the list, under a settings file that is gone, is in the way."""
    found = re.search(r"<Machine\s[^<>]{0,10000}?uuid=\"\{([0-9a-fA-F-]{1,50})\}\"", read_text_tail(settings))
    itself = found[1] if found else ""
    for machine in box.array("machines"):
        there = Path(str(machine.settingsFilePath))
        if str(machine.id) == itself and not there.exists():
            library = box.pyvbox.library
            library.IMachine(machine).unregister(library.CleanupMode.detach_all_return_none)
            box.forget_media([there.parent.parent])
