"""The data disk begins with its payload, has the size that was asked for, and is made whole or not at all."""

import json
from pathlib import Path

import pytest

from b2d import proc
from b2d.drivers import qemu_disk
from b2d.errors import B2dError, WrongState

MIB = 1024 * 1024


def content(disk: Path, folder: Path) -> bytes:
    """What a guest would read."""
    proc.check(["qemu-img", "convert", "-O", "raw", str(disk), str(folder / "raw")], timeout_s=60)
    return (folder / "raw").read_bytes()


def test_the_guest_reads_the_payload_and_then_nothing(tmp_path: Path) -> None:
    qemu_disk.create(tmp_path / "disk.qcow2", 8, b"payload")
    assert content(tmp_path / "disk.qcow2", tmp_path) == b"payload".ljust(8 * MIB, b"\0")


def test_an_empty_disk_costs_next_to_nothing_and_is_nobody_elses(tmp_path: Path) -> None:
    disk = tmp_path / "disk, large.qcow2"
    qemu_disk.create(disk, 20_000, b"payload")
    facts = json.loads(proc.check(["qemu-img", "info", "--output=json", str(disk)], timeout_s=60))
    assert facts["virtual-size"] == 20_000 * MIB
    assert disk.stat().st_size < 2 * MIB
    assert disk.stat().st_mode & 0o777 == 0o600


def test_a_disk_is_never_made_over_another(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes(b"everything that somebody has")
    with pytest.raises(WrongState):
        qemu_disk.create(disk, 8, b"payload")
    assert disk.read_bytes() == b"everything that somebody has"


def test_nothing_is_left_of_a_disk_that_could_not_be_made(tmp_path: Path) -> None:
    with pytest.raises(B2dError):
        qemu_disk.create(tmp_path / "disk.qcow2", -1, b"payload")
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_an_attempt_that_was_cut_off_is_no_obstacle(tmp_path: Path) -> None:
    for rest in (".disk.qcow2.start", ".disk.qcow2.unfinished"):
        (tmp_path / rest).write_bytes(b"half of it")
    qemu_disk.create(tmp_path / "disk.qcow2", 8, b"payload")
    assert [path.name for path in tmp_path.iterdir()] == ["disk.qcow2"]
