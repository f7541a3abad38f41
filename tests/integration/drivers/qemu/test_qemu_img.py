"""The data disk starts with its payload and has the requested size; creation is atomic, and the disk can grow."""

import json
import os
import re
import resource
from pathlib import Path

import pytest

from b2d.drivers.qemu import qcow2, qemu_img
from b2d.errors import B2dError, InvalidStateError
from b2d.guest import seed
from b2d.host import processes
from b2d.host.files import allocated_bytes
from b2d.machine_names import commands_for

MIB = 1024 * 1024
PREPARED = b"\0\0\0\0\x83\0\0\0\0\x10\0\0\0\x20\0\0"  # an entry of a partition table


def content(disk: Path, folder: Path) -> bytes:
    """Return the disk's content as a guest reads it."""
    processes.check(["qemu-img", "convert", "-O", "raw", str(disk), str(folder / "raw")], timeout_s=60)
    return (folder / "raw").read_bytes()


def test_a_new_disk_contains_the_payload_and_zeros(tmp_path: Path) -> None:
    qemu_img.create(tmp_path / "disk.qcow2", 8, b"payload")
    assert content(tmp_path / "disk.qcow2", tmp_path) == b"payload".ljust(8 * MIB, b"\0")


def test_an_empty_disk_is_small_and_private(tmp_path: Path) -> None:
    disk = tmp_path / "disk, large.qcow2"
    qemu_img.create(disk, 20_000, b"payload")
    facts = json.loads(processes.check(["qemu-img", "info", "--output=json", str(disk)], timeout_s=60))
    assert facts["virtual-size"] == 20_000 * MIB
    assert disk.stat().st_size < 2 * MIB
    assert disk.stat().st_mode & 0o777 == 0o600


def test_an_existing_disk_is_not_overwritten(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes(b"everything that somebody has")
    with pytest.raises(InvalidStateError):
        qemu_img.create(disk, 8, b"payload")
    assert disk.read_bytes() == b"everything that somebody has"


def test_a_used_disk_is_not_a_new_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img.create(disk, 20_000, b"payload")
    assert qcow2.contains_only(disk, b"payload")
    assert not qcow2.contains_only(disk, b"another payload")
    write = ("qemu-io", "-f", "qcow2", str(disk), "-c")
    for command in ("write -P 1 1M 4k", "write -P 1 19G 4k", "write -P 1 8k 512"):
        processes.check([*write, command], timeout_s=60)
        assert not qcow2.contains_only(disk, b"payload"), command
        disk.unlink()
        qemu_img.create(disk, 20_000, b"payload")
    processes.check(["qemu-img", "snapshot", "-c", "mine", str(disk)], timeout_s=60)
    assert not qcow2.contains_only(disk, b"payload")


@pytest.mark.parametrize("disk", [b"", b"payload", b"QFI\xfb" * 100])
def test_another_file_is_not_a_new_disk(tmp_path: Path, disk: bytes) -> None:
    assert not qcow2.contains_only(tmp_path / "disk.qcow2", b"payload")
    (tmp_path / "disk.qcow2").write_bytes(disk)
    assert not qcow2.contains_only(tmp_path / "disk.qcow2", b"payload")


def test_a_disk_is_replaced_by_a_copy_as_a_whole(tmp_path: Path) -> None:
    disk, other = tmp_path / "disk.qcow2", tmp_path / "other.qcow2"
    qemu_img.create(disk, 8, b"payload")
    before = disk.read_bytes()
    with pytest.raises(OSError, match=re.escape("other.qcow2")):
        qemu_img.replace(disk, other)
    assert disk.read_bytes() == before
    other.write_bytes(b"other")
    qemu_img.replace(disk, other)
    assert (disk.read_bytes(), disk.stat().st_mode & 0o777) == (b"other", 0o600)
    assert set(tmp_path.iterdir()) == {disk, other}


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(B2dError):
        qemu_img.create(tmp_path / "disk.qcow2", -1, b"payload")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_an_interrupted_creation_do_no_harm(tmp_path: Path) -> None:
    for rest in (".disk.qcow2.start", ".disk.qcow2.unfinished"):
        (tmp_path / rest).write_bytes(b"half of it")
    qemu_img.create(tmp_path / "disk.qcow2", 8, b"payload")
    assert [path.name for path in tmp_path.iterdir()] == ["disk.qcow2"]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Create a disk of 8 MiB in its initial state."""
    path = tmp_path / "disk: odd, name.qcow2"
    qemu_img.create(path, 8, seed.payload("key"))
    return path


def write(disk: Path, offset: int, content: bytes) -> None:
    """Write data as the guest does, in a sector of its own."""
    raw = disk.with_name("written")
    raw.write_bytes(content.ljust(512, b"\0"))
    command = ["qemu-io", "-f", "qcow2", "-c", f"write -s {raw} {offset} 512", str(disk)]
    processes.check(command, timeout_s=60)
    raw.unlink()


def test_a_disk_grows_with_its_content(disk: Path, tmp_path: Path) -> None:
    write(disk, 0, bytes(446) + PREPARED)
    write(disk, 8 * MIB - 512, b"the last of it")
    before = content(disk, tmp_path)
    qemu_img.grow(disk, 20)
    assert qcow2.read_size(disk) == 20 * MIB
    assert content(disk, tmp_path) == before.ljust(20 * MIB, b"\0")
    assert disk.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {disk.name, "raw"}


@pytest.mark.parametrize("size_mib", [0, 1, 7, 8])
def test_a_disk_never_shrinks(disk: Path, size_mib: int) -> None:
    before = disk.read_bytes()
    qemu_img.grow(disk, size_mib)
    assert disk.read_bytes() == before


def test_a_disk_with_a_saved_state_grows_too(disk: Path) -> None:
    """An interrupted save left the snapshot."""
    processes.check(["qemu-img", "snapshot", "-c", "b2d-saved", str(disk)], timeout_s=60)
    qemu_img.grow(disk, 20)
    assert qcow2.read_size(disk) == 20 * MIB


def test_a_disk_that_the_guest_is_formatting_does_not_grow(disk: Path, tmp_path: Path) -> None:
    write(disk, 0, seed.MAGIC.encode().ljust(446, b"\0") + PREPARED)
    with pytest.raises(InvalidStateError) as caught:
        qemu_img.grow(disk, 20)
    assert caught.value.hint == f"b2d up --vm {tmp_path.name}"  # the folder is named like the machine
    assert qcow2.read_size(disk) == 8 * MIB
    assert list(tmp_path.iterdir()) == [disk]


@pytest.mark.parametrize("begin", [b"", b"QFI\xfb", b"QFI\xfb" + bytes(20), b"\0" * 4096])
def test_an_invalid_disk_has_no_size_and_is_unchanged(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "disk.qcow2"
    assert qcow2.read_size(path) == 0
    path.write_bytes(begin)
    assert qcow2.read_size(path) == 0
    with pytest.raises(B2dError):
        qemu_img.grow(path, 8)
    assert path.read_bytes() == begin


def random(disk: Path, offset_mib: int, size_mib: int) -> None:
    """Fill a part of the disk with incompressible data."""
    raw = disk.with_name("written")
    raw.write_bytes(os.urandom(size_mib * MIB))
    processes.check(
        ["qemu-io", "-f", "qcow2", "-c", f"write -s {raw} {offset_mib}M {size_mib}M", str(disk)], timeout_s=60
    )
    raw.unlink()


def test_compacting_a_disk_preserves_its_content(disk: Path, tmp_path: Path) -> None:
    random(disk, 1, 4)
    processes.check(["qemu-io", "-f", "qcow2", "-c", "write -P 0 2M 3M", str(disk)], timeout_s=60)
    before, room = content(disk, tmp_path), allocated_bytes(disk)
    qemu_img.compact(disk)
    assert content(disk, tmp_path) == before
    assert room - allocated_bytes(disk) > 2 * MIB
    assert disk.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {disk.name, "raw"}


def test_a_disk_with_a_snapshot_is_not_compacted(disk: Path, tmp_path: Path) -> None:
    processes.check(["qemu-img", "snapshot", "-c", "somebody's", str(disk)], timeout_s=60)
    before = disk.read_bytes()
    with pytest.raises(InvalidStateError) as caught:
        qemu_img.compact(disk)
    assert caught.value.hint == commands_for(("up", "disk compact"), tmp_path.name)
    assert disk.read_bytes() == before


def test_a_disk_without_space_for_its_copy_is_unchanged(disk: Path, tmp_path: Path) -> None:
    random(disk, 1, 4)
    before = disk.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, limits[1]))
    try:
        with pytest.raises(B2dError):
            qemu_img.compact(disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert disk.read_bytes() == before
    assert list(tmp_path.iterdir()) == [disk]
