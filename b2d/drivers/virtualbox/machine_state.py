"""What VirtualBox's names for a machine's state mean, and what its files tell without asking it."""

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
    "AbortedSaved": MachineState.SAVED,  # it ended while its state was being loaded, which is still there
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


def by_number(constants: Mapping[str, int]) -> dict[int, MachineState]:
    """The states by the numbers of the installed version, whose constants have more than one name for some."""
    return {
        number: STATES[name] for name, number in constants.items() if name in STATES
    }  # not FirstOnline, LastTransient and the like


def of_file(settings: Path) -> MachineState:
    """The state of a machine that cannot be running, for VirtualBox is not there, by VirtualBox's own record."""
    if not is_regular(settings):
        return MachineState.ABSENT
    text = read_text_tail(settings)
    found = re.search(r"<Machine\s[^<>]*>", text)  # no second one within: the time would grow with the square
    element = found[0] if found else ""
    if "stateFile=" in element:
        return MachineState.SAVED
    return MachineState.CRASHED if 'aborted="true"' in element else MachineState.STOPPED


def disk_room(paths: MachinePaths) -> int:
    """How many bytes the files of its data disk take, with those of its snapshots."""
    return sum(map(allocated_bytes, [paths.disk_vdi, *(paths.virtualbox / "Snapshots").glob("*.vdi")]))


def last_error(log: Path) -> str:
    """The last thing that a machine's process gave as an error in its log, "" when there is none."""
    for line in reversed(read_text_tail(log).split("\n")):
        _, _, begun = line.rpartition("aText={")
        said, ends, _ = begun.partition("}, preserve=")
        if ends:
            return said
    return ""
