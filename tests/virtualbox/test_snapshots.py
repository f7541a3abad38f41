"""Snapshots of VirtualBox machines: VirtualBox's own, whose differencing disks b2d follows."""

import os
from typing import Any

import pytest

from b2d.errors import B2dError, InvalidStateError
from b2d.models import MachineState
from b2d.paths import MachinePaths
from tests.support.virtualbox_case import VirtualBoxCase, vboxmanage
from tests.virtualbox.test_reregister import move_folder

MIB = 1 << 20
pytestmark = pytest.mark.virtualbox


def names(machine: VirtualBoxCase) -> list[str]:
    return [snapshot.name for snapshot in machine.driver().snapshots()]


def data_disk(machine: VirtualBoxCase) -> str:
    """Return the file that the guest writes to now."""
    lines = vboxmanage("showvminfo", machine.spec.name, "--machinereadable").splitlines()
    return next(line for line in lines if line.startswith('"SATA-0-0"=')).split('"')[3]


def open_disk(machine: VirtualBoxCase, *, writable: bool) -> Any:
    """Open the content of that file."""
    box = machine.driver()._client()
    library = box.pyvbox.library
    kinds = (library.DeviceType.hard_disk, library.AccessMode.read_write)
    return box.root.open_medium(data_disk(machine), *kinds, False).open_for_io(writable, "")


def write(machine: VirtualBoxCase, content: bytes) -> None:
    """Write at the disk's start, as a guest does."""
    medium = open_disk(machine, writable=True)
    medium._i.write(0, content.ljust(512, b"\0"))
    medium.close()


def read(machine: VirtualBoxCase) -> bytes:
    medium = open_disk(machine, writable=False)
    try:
        return bytes(medium._i.read(0, 512)).rstrip(b"\0")
    finally:
        medium.close()


def test_snapshots_are_restored_and_merged_into_one_file_when_all_are_deleted(machine: VirtualBoxCase) -> None:
    driver = machine.driver()
    driver.take_snapshot("made")
    write(machine, b"later")
    driver.take_snapshot("later")
    write(machine, b"latest")
    assert data_disk(machine) != str(machine.paths.disk_vdi)
    driver.restore_snapshot("made")
    assert read(machine) == b"payload"
    with pytest.raises(InvalidStateError, match="VirtualBox cannot delete made while"):
        driver.delete_snapshot("made")
    driver.restore_snapshot("later")
    assert read(machine) == b"later"
    driver.delete_snapshot("made")
    driver.delete_snapshot("later")
    assert read(machine) == b"later"
    assert data_disk(machine) == str(machine.paths.disk_vdi)


def test_a_disk_with_snapshots_does_not_grow(machine: VirtualBoxCase) -> None:
    before = machine.driver().disk_mib()
    machine.driver().take_snapshot("one")
    with pytest.raises(InvalidStateError, match="cannot change a disk that has snapshots"):
        machine.driver().grow_disk(before + 100)
    assert machine.driver().disk_mib() == before
    machine.driver().delete_snapshot("one")
    machine.driver().grow_disk(before + 100)
    assert machine.driver().disk_mib() == before + 100


def test_zeroed_blocks_are_returned_and_zeros_on_unused_blocks_take_no_space(machine: VirtualBoxCase) -> None:
    def put(content: bytes, at_mib: int) -> int:
        medium = open_disk(machine, writable=True)
        medium._i.write(at_mib * MIB, content)
        medium.close()
        return machine.driver().disk_room()

    full = put(os.urandom(4 * MIB), 40)
    assert put(bytes(4 * MIB), 60) == full
    assert put(bytes(4 * MIB), 40) == full
    machine.driver().compact_disk()
    assert full - machine.driver().disk_room() >= 4 * MIB
    assert read(machine) == b"payload"
    machine.driver().take_snapshot("one")
    with pytest.raises(InvalidStateError):
        machine.driver().compact_disk()


def test_a_snapshot_of_a_running_machine_is_restored_without_its_memory(machine: VirtualBoxCase) -> None:
    machine.boot()
    machine.driver().take_snapshot("live")
    machine.driver().kill()
    machine.driver().restore_snapshot("live")
    assert machine.driver().state() == MachineState.STOPPED
    machine.boot()


def test_a_snapshot_that_fails_changes_nothing(machine: VirtualBoxCase) -> None:
    folder = machine.paths.virtualbox / "Snapshots"
    folder.write_bytes(b"where the further disk would lie")
    disk = data_disk(machine)
    for _ in range(2):
        with pytest.raises(B2dError):
            machine.driver().take_snapshot("one")
        assert machine.driver().state() == MachineState.STOPPED
        machine.boot()
        with pytest.raises(B2dError):
            machine.driver().take_snapshot("one")
        assert machine.driver().state() == MachineState.RUNNING
        machine.driver().kill()
        assert (names(machine), data_disk(machine)) == ([], disk)
    folder.unlink()
    assert read(machine) == b"payload"
    machine.driver().take_snapshot("one")
    assert names(machine) == ["one"]


def test_a_moved_machine_keeps_its_snapshots(machine: VirtualBoxCase) -> None:
    machine.driver().take_snapshot("made")
    write(machine, b"later")
    move_folder(machine, machine.paths.folder.with_name("another home"))
    assert names(machine) == ["made"]
    assert read(machine) == b"later"
    machine.driver().restore_snapshot("made")
    assert read(machine) == b"payload"
    paths: MachinePaths = machine.paths
    machine.driver().delete()
    assert [path.name for path in paths.folder.iterdir()] == ["seed.img"]
