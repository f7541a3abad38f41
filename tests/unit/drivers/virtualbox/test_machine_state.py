"""VirtualBox's states by name, whatever their numbers in a version, and its own record while it does not run."""

from pathlib import Path

import pytest
from virtualbox import library

from b2d.drivers.virtualbox import machine_state
from b2d.models import MachineState

# MachineState of 7.2.22 in its binding: some numbers have two names
OF_7_2 = {
    "Null": 0,
    "PoweredOff": 1,
    "Saved": 2,
    "Teleported": 3,
    "Aborted": 4,
    "AbortedSaved": 5,
    "Running": 6,
    "Paused": 7,
    "Stuck": 8,
    "Teleporting": 9,
    "LiveSnapshotting": 10,
    "Starting": 11,
    "Stopping": 12,
    "Saving": 13,
    "Restoring": 14,
    "TeleportingPausedVM": 15,
    "TeleportingIn": 16,
    "DeletingSnapshotOnline": 17,
    "DeletingSnapshotPaused": 18,
    "OnlineSnapshotting": 19,
    "RestoringSnapshot": 20,
    "DeletingSnapshot": 21,
    "SettingUp": 22,
    "Snapshotting": 23,
    "FirstOnline": 6,
    "LastOnline": 19,
    "FirstTransient": 9,
    "LastTransient": 23,
}
OF_6_1 = {name: value for name, value, _ in library.MachineState._enums}  # the version that pyvbox was generated from


@pytest.mark.parametrize("constants", [OF_6_1, OF_7_2], ids=["6.1", "7.2"])
def test_every_state_of_a_version_is_known_except_null(constants: dict[str, int]) -> None:
    assert set(constants.values()) - set(machine_state.states_by_number(constants)) == {constants["Null"]}


def test_state_numbers_depend_on_the_version() -> None:
    assert (
        machine_state.states_by_number(OF_6_1)[5] == machine_state.states_by_number(OF_7_2)[6] == MachineState.RUNNING
    )
    assert machine_state.states_by_number(OF_7_2)[5] == MachineState.SAVED


@pytest.mark.parametrize(
    ("element", "state"),
    [
        ('<Machine uuid="{1}" name="a" OSType="Linux_64">', MachineState.STOPPED),
        ('<Machine uuid="{1}" name="a" stateFile="Snapshots/1.sav" aborted="true">', MachineState.SAVED),
        ('<Machine uuid="{1}" name="a"\n   aborted="true">', MachineState.CRASHED),
    ],
)
def test_without_virtualbox_the_state_is_read_from_the_settings_file(
    tmp_path: Path, element: str, state: MachineState
) -> None:
    settings = tmp_path / "machine.vbox"
    settings.write_text(f'<?xml version="1.0"?>\n<VirtualBox version="1.20-linux">\n  {element}\n')
    assert machine_state.read_state_file(settings) == state


def test_without_virtualbox_and_a_settings_file_a_machine_is_absent(tmp_path: Path) -> None:
    assert machine_state.read_state_file(tmp_path / "machine.vbox") == MachineState.ABSENT


def test_the_last_error_of_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "VBox.log"
    log.write_text(
        "00:00:00.1 ERROR [COM]: aRC=X aText={an early one}, preserve=false aResultDetail=0\n"
        "00:00:00.2 ERROR [COM]: aRC=X aText={the state file is invalid (VERR_SSM)}, preserve=false aResultDetail=-1\n"
    )
    assert machine_state.last_error(log) == "the state file is invalid (VERR_SSM)"
    assert machine_state.last_error(tmp_path / "none") == ""
