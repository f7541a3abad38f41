"""The data partition of a guest that reads no seed disk follows its disk; what the guest answers is shown."""

import subprocess
from pathlib import Path

import pytest

from b2d.machine.foreign_disk import ENLARGE, enlarge_partition
from b2d.models import CommandResult
from tests.support.fakes import FakeGuest, FakeReporter, a_spec

TABLE = """\
label: gpt
last-lba: 8191966
/dev/sda1 : start=     2050048, size=     6139904, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=A
/dev/sda2 : start=        2048, size=     2048000, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, uuid=B
"""


class Answering(FakeGuest):
    """A guest that answers every command with that result."""

    def __init__(self, result: CommandResult) -> None:
        super().__init__()
        self._result = result

    def run(self, command: str, timeout_s: float, limit: int = 0) -> CommandResult:
        return self._result


@pytest.mark.parametrize(
    ("result", "messages"),
    [
        (CommandResult(0, b"", b""), []),
        (CommandResult(0, b"resizing\nenlarged\n", b""), [("note", "was enlarged with its disk")]),
        (CommandResult(1, b"", b"a\nsfdisk: no such disk\n"), [("warn", "cannot enlarge: sfdisk: no such disk; see:")]),
        (CommandResult(127, b"", b""), [("warn", "cannot enlarge: exit code 127; see: b2d ssh --vm box")]),
    ],
)
def test_a_change_and_a_failure_are_reported(result: CommandResult, messages: list[tuple[str, str]]) -> None:
    reporter = FakeReporter()
    enlarge_partition(Answering(result), a_spec("box"), reporter)
    assert len(reporter.messages) == len(messages)
    for (kind, text), (wanted_kind, wanted_text) in zip(reporter.messages, messages, strict=True):
        assert (kind, wanted_text in text) == (wanted_kind, True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a folder with a disk of two partitions as the kernel shows it, and programs that record their input."""
    for name, start, size in (("sda1", 2050048, 6139904), ("sda2", 2048, 2048000)):
        folder = tmp_path / "sys/sda" / name
        folder.mkdir(parents=True)
        for file, value in (("start", start), ("size", size), ("partition", int(name[-1]))):
            (folder / file).write_text(f"{value}\n")
        (tmp_path / "block").mkdir(exist_ok=True)
        (tmp_path / "block" / name).symlink_to(folder)
    (tmp_path / "table").write_text(TABLE)
    programs = {
        "df": "printf 'Filesystem\\n/dev/sda1 1 1\\n'",
        "sfdisk": f"case $1 in -d) cat {tmp_path}/table ;; *) cat >{tmp_path}/new ;; esac",
        "partx": f"echo partx $* >>{tmp_path}/calls",
        "resize2fs": f"echo resize2fs $* >>{tmp_path}/calls",
    }
    (tmp_path / "bin").mkdir()
    for name, script in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def enlarge(disk: Path, sectors: int) -> subprocess.CompletedProcess[str]:
    (disk / "sys/sda/size").write_text(f"{sectors}\n")
    script = ENLARGE.replace("/sys/class/block/", f"{disk}/block/")
    environment = {"PATH": f"{disk}/bin:/usr/bin:/bin"}
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False, env=environment)


def test_only_the_last_partition_of_a_larger_disk_changes(disk: Path) -> None:
    completed = enlarge(disk, 16384000)
    assert (completed.returncode, completed.stdout) == (0, "enlarged\n"), completed.stderr
    new = (disk / "new").read_text()
    assert "last-lba" not in new
    assert "/dev/sda1 : start=     2050048, type=" in new
    assert TABLE.splitlines()[3] in new
    assert (disk / "calls").read_text() == "partx -u /dev/sda\nresize2fs /dev/sda1\n"


@pytest.mark.parametrize("sectors", [8192000, 8189952 + 131000])
def test_a_small_free_space_is_not_used(disk: Path, sectors: int) -> None:
    completed = enlarge(disk, sectors)
    assert (completed.returncode, completed.stdout) == (0, "")
    assert not (disk / "new").exists()


def test_a_disk_that_ends_with_another_partition_is_not_changed(disk: Path) -> None:
    (disk / "sys/sda/sda2/start").write_text("9000000\n")
    assert enlarge(disk, 16384000).stdout == ""
    assert not (disk / "new").exists()


@pytest.mark.parametrize("table", ["", "label: gpt\n", TABLE.replace("/dev/sda1", "/dev/sdb1")])
def test_an_unexpected_table_is_not_changed(disk: Path, table: str) -> None:
    (disk / "table").write_text(table)
    assert enlarge(disk, 16384000).returncode != 0
    assert not (disk / "new").exists()
