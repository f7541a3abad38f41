"""The `disk` commands: measured and reclaimed space in each state; data never changes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from b2d.errors import B2dError, InvalidStateError, MachineNotFoundError
from b2d.machine import disk_usage
from b2d.machine.disk_usage import Compacted, DataDisk, DiskUsage, FileSystemUsage
from b2d.models import CommandResult, MachineState
from tests.support.fake_machine import Box

THERE = [state for state in MachineState if state != MachineState.ABSENT]
OFF = [MachineState.STOPPED, MachineState.CRASHED]
ROOM = 1 << 20
TOLD = b"""\
Filesystem           1024-blocks    Used Available Capacity Mounted on
/dev/vda1             18668964      2424  17677408   0% /mnt/vda1
"""


def of(box: Box) -> DataDisk:
    return DataDisk(box.machine())


@pytest.mark.parametrize("state", THERE)
def test_the_disk_usage_of_a_running_guest_is_reported(box: Box, state: MachineState) -> None:
    box.in_state(state)
    box.guest.answers[disk_usage.MEASURE] = CommandResult(0, TOLD, b"")
    files = FileSystemUsage(18668964 << 10, 2424 << 10, 17677408 << 10) if state == MachineState.RUNNING else None
    assert of(box).use() == DiskUsage(256 << 20, ROOM, files)
    assert box.reporter.messages == []


@pytest.mark.parametrize("answer", [b"", b"df: no such file\n", b"one two\nthree\n", b"a b c d\n", TOLD[:80]])
def test_an_invalid_answer_of_the_guest_is_a_warning(box: Box, answer: bytes) -> None:
    box.in_state(MachineState.RUNNING)
    box.guest.answers[disk_usage.MEASURE] = CommandResult(1, answer, b"")
    assert of(box).use() == DiskUsage(256 << 20, ROOM, None)
    box.guest.reachable = False
    assert of(box).use().files is None
    assert box.reporter.texts("warn") == ["the guest does not report its disk usage"] * 2


@pytest.mark.parametrize("state", OFF)
def test_the_disk_of_a_stopped_machine_is_compacted(box: Box, state: MachineState) -> None:
    box.in_state(state)
    assert of(box).compact() == Compacted(ROOM, ROOM // 2, done=True)
    assert (box.calls, box.guest.commands) == (["compact_disk"], [])


@pytest.mark.parametrize("trims", [True, False])
def test_a_running_guest_discards_or_zeroes_unused_blocks(box: Box, trims: bool) -> None:
    machine = box.in_state(MachineState.RUNNING)
    box.hypervisor.trims = trims
    assert of(box).compact() == Compacted(ROOM, ROOM, done=trims)
    assert box.guest.commands == [disk_usage.TRIM if trims else disk_usage.zero_fill_command(disk_usage.HERE)]
    assert box.calls == []
    assert machine.state() == MachineState.RUNNING


@pytest.mark.parametrize("dash", ["sh", "/usr/bin/busybox sh"])
@pytest.mark.parametrize(("end", "left", "exit_code"), [(0, 600_000, 0), (1, 20_000, 0), (1, 600_000, 1)])
def test_space_reserved_for_root_is_zeroed_and_a_disk_filled_by_it_is_no_error(
    tmp_path: Path, dash: str, end: int, left: int, exit_code: int
) -> None:
    """Of 1000000 KiB 200000 are used; df's available is less, by ext4's reserved blocks."""
    (tmp_path / "used").write_text("200000")
    programs = {
        "sudo": 'exec "$@"',
        "df": f"echo header; echo /dev/vda1 1000000 $(cat {tmp_path}/used) 750000 20% /mnt",
        "dd": f'echo "$@" >>{tmp_path}/said; echo {1_000_000 - left} >{tmp_path}/used; exit {end}',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    completed = subprocess.run(
        [*dash.split(), "-c", disk_usage.zero_fill_command(str(tmp_path))], env=environment, check=False
    )
    assert completed.returncode == exit_code
    assert (tmp_path / "said").read_text() == f"if=/dev/zero bs=1M count={800_000 // 1024 * 9 // 10}\n"
    assert not (tmp_path / ".b2d-zeros").exists()


def test_an_error_of_fstrim_is_reported_with_its_text(box: Box) -> None:
    box.in_state(MachineState.RUNNING)
    box.guest.answers[disk_usage.TRIM] = CommandResult(1, b"", b"fstrim: FITRIM: Operation not supported\n")
    with pytest.raises(B2dError, match="the command failed in the guest: fstrim: FITRIM: Operation not supported"):
        of(box).compact()


@pytest.mark.parametrize("state", [state for state in THERE if state not in [*OFF, MachineState.RUNNING]])
def test_a_disk_is_not_compacted_in_other_states(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    with pytest.raises(InvalidStateError, match=f"box is {state}"):
        of(box).compact()
    assert (box.calls, box.guest.commands, machine.state()) == ([], [], state)


def test_a_missing_machine_has_no_disk_usage(box: Box) -> None:
    verbs: list[Callable[[], object]] = [of(box).use, of(box).compact]
    for verb in verbs:
        with pytest.raises(MachineNotFoundError):
            verb()
    box.create_machine()
    box.hypervisor.machines.clear()
    for verb in verbs:
        with pytest.raises(MachineNotFoundError):
            verb()
