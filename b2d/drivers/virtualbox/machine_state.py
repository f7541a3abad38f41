"""VirtualBox's names of states, and the facts in a machine's files that need no VirtualBox."""

import re
from collections.abc import Mapping
from pathlib import Path

from b2d.host.files import allocated_bytes, is_regular, read_text_tail
from b2d.models import MachineState
from b2d.paths import MachinePaths

# MachineState of VirtualBox's SDK reference; the numbers differ between versions, the names do not
STATES = {
    "PoweredOff": MachineState.STOPPED,
    "Teleported": MachineState.STOPPED,
    "RestoringSnapshot": MachineState.STOPPED,
    "DeletingSnapshot": MachineState.STOPPED,
    "Snapshotting": MachineState.STOPPED,
    "Saved": MachineState.SAVED,
    "AbortedSaved": MachineState.SAVED,  # it ended while loading its state, which still exists
    "Aborted": MachineState.CRASHED,
    "Stuck": MachineState.CRASHED,
    "Paused": MachineState.PAUSED,
    "TeleportingPausedVM": MachineState.PAUSED,
    "DeletingSnapshotPaused": MachineState.PAUSED,
    "Running": MachineState.RUNNING,
    "Teleporting": MachineState.RUNNING,
    "LiveSnapshotting": MachineState.RUNNING,
    "OnlineSnapshotting": MachineState.RUNNING,
    "DeletingSnapshotOnline": MachineState.RUNNING,
    "Starting": MachineState.STARTING,
    "Restoring": MachineState.STARTING,
    "SettingUp": MachineState.STARTING,
    "TeleportingIn": MachineState.STARTING,
    "Stopping": MachineState.STOPPING,
    "Saving": MachineState.STOPPING,
}


def states_by_number(constants: Mapping[str, int]) -> dict[int, MachineState]:
    """Return the states by the installed version's numbers, which have several names for some."""
    return {
        number: STATES[name] for name, number in constants.items() if name in STATES
    }  # not FirstOnline, LastTransient and the like


def read_state_file(settings: Path) -> MachineState:
    """Return the state of a machine from VirtualBox's settings file, for hosts where VirtualBox does not run."""
    if not is_regular(settings):
        return MachineState.ABSENT
    text = read_text_tail(settings)
    match = re.search(r"<Machine\s[^<>]*>", text)  # no nested "<": else quadratic time
    element = match[0] if match else ""
    if "stateFile=" in element:
        return MachineState.SAVED
    return MachineState.CRASHED if 'aborted="true"' in element else MachineState.STOPPED


def disk_room(paths: MachinePaths) -> int:
    """Return the number of bytes that the files of the data disk and its snapshots take."""
    return sum(map(allocated_bytes, [paths.disk_vdi, *(paths.virtualbox / "Snapshots").glob("*.vdi")]))


def last_error(log: Path) -> str:
    """Return the last error in the log of a machine's process, "" when there is none."""
    for line in reversed(read_text_tail(log).split("\n")):
        _, _, start = line.rpartition("aText={")
        text, end, _ = start.partition("}, preserve=")
        if end:
            return text
    return ""
