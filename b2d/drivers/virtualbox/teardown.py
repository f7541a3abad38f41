"""How a machine of VirtualBox ends or goes, and which of its crashes is none any more, as it was dealt with."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.errors import HypervisorError
from b2d.host.file_removal import remove as remove_file
from b2d.host.file_removal import remove_own
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify, is_alive
from b2d.machine_store.own_files import VIRTUALBOX
from b2d.models import MachineState
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.drivers.virtualbox.machine import VirtualBoxMachine

ON = frozenset({MachineState.STARTING, MachineState.RUNNING, MachineState.PAUSED, MachineState.STOPPING})
OFF = frozenset({MachineState.STOPPED, MachineState.CRASHED})
CRASH_SEEN = "b2d/crash-seen"  # when the machine's state changed last, once a kill has dealt with a crash
END_S = 10.0


def true_state(machine: "VirtualBoxMachine") -> MachineState:
    """What VirtualBox says; a crash that a kill has dealt with is none any more."""
    state = machine.state()
    if state == MachineState.CRASHED and machine.note(CRASH_SEEN) == machine.last_change():
        return MachineState.STOPPED
    return state


def end(machine: "VirtualBoxMachine") -> None:
    """Cut the power, also of a process that answers nobody."""
    if machine.state() in (*ON, MachineState.CRASHED) and machine.pid() is not None:
        try:
            machine.power_down()
        except HypervisorError:
            _end_process(machine)
    if machine.state() == MachineState.CRASHED:
        machine.write_note(CRASH_SEEN, machine.last_change())


def remove(box: "VirtualBox", paths: MachinePaths, spared: frozenset[Path] = frozenset()) -> None:
    """Whatever there is of the machine, in VirtualBox and on disk, but what is spared; a shared ISO stays."""
    machine = box.machine(paths.virtualbox_settings)
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


def _end_process(machine: "VirtualBoxMachine") -> None:
    pid = machine.pid()
    process = None if pid is None else identify(pid)
    if process is not None:
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(process), condition="VirtualBox's process to end", timeout_s=END_S)
    wait_until(lambda: machine.state() not in ON, condition="VirtualBox to see its end", timeout_s=END_S)
