"""Internal snapshots of a real QEMU disk, with a running guest and with qemu-img."""

import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2d.drivers.qemu import internal_snapshots, qcow2, qemu_img
from b2d.drivers.qemu.driver import QemuDriver, QemuSettings
from b2d.drivers.qemu.internal_snapshots import SnapshotDisk
from b2d.errors import B2dError
from b2d.host import processes
from b2d.host.polling import wait_until
from b2d.models import Image, MachineState
from b2d.paths import MachinePaths
from tests.integration.drivers.qemu.test_qemu_img import MIB, content, write
from tests.qemu.test_driver import snapshots, wait_for_count
from tests.support import tiny_guest


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    return tiny_guest.folder(tmp_path / "m:odd,name")


@pytest.fixture
def disk(paths: MachinePaths) -> SnapshotDisk:
    """Return a disk of 8 MiB that no process has open."""
    qemu_img.create(paths.disk_qcow2, 8, b"payload")
    return SnapshotDisk(paths, in_use=False)


def names(paths: MachinePaths) -> list[str]:
    return [snapshot.name for snapshot in internal_snapshots.list_snapshots(paths.disk_qcow2)]


def is_undamaged(path: Path) -> bool:
    """Return True when qemu-img finds no damage; leaked clusters, which the next growth uses, are none."""
    completed = processes.run(["qemu-img", "check", "--output=json", str(path)], timeout_s=60)
    facts = json.loads(completed.stdout)
    return not facts.get("corruptions") and not facts["check-errors"]


def test_each_snapshot_is_restored_with_its_size(disk: SnapshotDisk, paths: MachinePaths, tmp_path: Path) -> None:
    first = content(paths.disk_qcow2, tmp_path)
    disk.take("1")  # QEMU's own numbering
    write(paths.disk_qcow2, 5 * MIB, b"later")
    disk.take("first")
    second = content(paths.disk_qcow2, tmp_path)
    qemu_img.grow(paths.disk_qcow2, 20)
    write(paths.disk_qcow2, 19 * MIB, b"latest")
    disk.restore("1")
    assert content(paths.disk_qcow2, tmp_path) == first
    assert qcow2.read_size(paths.disk_qcow2) == 8 * MIB
    disk.restore("first")
    assert content(paths.disk_qcow2, tmp_path) == second
    disk.delete("1")
    assert names(paths) == ["first"]
    assert content(paths.disk_qcow2, tmp_path) == second
    disk.delete("first")
    assert snapshots(paths) == []
    assert content(paths.disk_qcow2, tmp_path) == second
    assert is_undamaged(paths.disk_qcow2)


def test_the_list_contains_the_snapshots_of_qemu_with_their_sizes(disk: SnapshotDisk, paths: MachinePaths) -> None:
    processes.check(["qemu-img", "snapshot", "-c", "somebody's own", str(paths.disk_qcow2)], timeout_s=60)
    disk.take("one")
    for place in range(4):
        write(paths.disk_qcow2, (2 + place) * MIB, b"data")
    disk.take("two")
    listed = internal_snapshots.list_snapshots(paths.disk_qcow2)
    by_qemu = [snapshot for snapshot in snapshots(paths) if isinstance(snapshot, dict)]
    assert [(f"b2d:{snapshot.name}", snapshot.taken_s) for snapshot in listed] == [
        (row["name"], row["date-sec"]) for row in by_qemu[1:]
    ]
    assert listed[1].size - listed[0].size == 4 * 65536


def test_deleting_a_snapshot_returns_its_space_to_the_host(disk: SnapshotDisk, paths: MachinePaths) -> None:
    random = paths.folder / "random"
    random.write_bytes(os.urandom(4 * MIB))
    command = ["qemu-io", "-f", "qcow2", "-c", f"write -s {random} 1M 4M", str(paths.disk_qcow2)]
    processes.check(["qemu-io", "-f", "qcow2", "-c", "write 1M 4M", str(paths.disk_qcow2)], timeout_s=60)
    disk.take("one")
    before = paths.disk_qcow2.stat().st_blocks * 512
    processes.check(command, timeout_s=60)
    assert paths.disk_qcow2.stat().st_blocks * 512 - before >= 4 * MIB
    disk.delete("one")
    assert paths.disk_qcow2.stat().st_blocks * 512 - before < MIB


@pytest.mark.parametrize("begin", [b"", b"QFI\xfb", b"QFI\xfb" + b"\xff" * 100, b"\0" * 4096])
def test_an_invalid_disk_has_no_snapshots(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "disk.qcow2"
    assert qcow2.read_snapshots(path) == []
    path.write_bytes(begin)
    assert qcow2.read_snapshots(path) == []


@contextmanager
def limit_file_size(path: Path, more: int) -> Iterator[None]:
    """Limit the file size of started programs to the current size of this file plus a margin."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("more", [0, 65536, 2 * 65536])
def test_a_snapshot_without_space_changes_nothing(
    disk: SnapshotDisk, paths: MachinePaths, tmp_path: Path, more: int
) -> None:
    write(paths.disk_qcow2, 5 * MIB, b"data")
    before = content(paths.disk_qcow2, tmp_path)
    failures = 0
    for number in range(3):
        try:
            with limit_file_size(paths.disk_qcow2, more):
                disk.take(f"n{number}")
        except B2dError:
            failures += 1
            assert f"n{number}" not in names(paths)
        assert content(paths.disk_qcow2, tmp_path) == before
        assert is_undamaged(paths.disk_qcow2)
    assert failures or more
    disk.take("last")
    write(paths.disk_qcow2, 5 * MIB, b"other")
    disk.restore("last")
    assert content(paths.disk_qcow2, tmp_path) == before


@pytest.mark.qemu
def test_a_running_guest_continues_during_snapshots_and_restarts_from_a_restored_one(
    paths: MachinePaths, tiny_image: Image
) -> None:
    spec = tiny_guest.spec()._replace(disk_mib=64)
    driver = QemuDriver(spec, paths, lambda: tiny_image, QemuSettings("tcg"))
    initial: Callable[[], list[int]] = lambda: tiny_guest.initial_counts(driver.console())  # noqa: E731
    driver.create(b"payload")
    try:
        driver.start()
        wait_for_count(driver, 3)
        driver.take_snapshot("three")
        with pytest.raises(B2dError):
            driver.take_snapshot("three")  # callers check before, and QEMU checks too
        then = max(tiny_guest.counts(driver.console()))
        wait_for_count(driver, then + 10)
        driver.save()
        assert names(paths) == ["three"]
        driver.start()  # from the saved state, which reverts the disk to it, with the snapshot
        wait_for_count(driver, then + 15)
        driver.take_snapshot("b2d-saved")
        driver.save()
        driver.restore_snapshot("three")
        assert (driver.state(), len(snapshots(paths))) == (MachineState.STOPPED, 2)
        driver.start()
        wait_until(lambda: initial() != [], condition="the boot", timeout_s=tiny_guest.BOOT_TIMEOUT_S)
        assert 3 <= initial()[0] <= then + 1
        driver.delete_snapshot("three")
        driver.save()
        driver.start()
        assert names(paths) == ["b2d-saved"]  # an ordinary name
        with driver_stopped(driver), pytest.raises(B2dError):
            driver.restore_snapshot("three")
        driver.restore_snapshot("b2d-saved")
        driver.start()
        wait_until(lambda: initial() != [], condition="the boot", timeout_s=tiny_guest.BOOT_TIMEOUT_S)
        assert initial()[0] >= then + 14
    finally:
        driver.delete()
    assert not paths.disk_qcow2.exists()


@contextmanager
def driver_stopped(driver: QemuDriver) -> Iterator[None]:
    driver.kill()
    yield


def test_a_saved_state_survives_a_failed_restore(disk: SnapshotDisk, paths: MachinePaths) -> None:
    driver = QemuDriver(tiny_guest.spec(), paths, lambda: pytest.fail("nothing boots"), QemuSettings("tcg"))
    subprocess.run(["qemu-img", "snapshot", "-c", "b2d-saved", str(paths.disk_qcow2)], check=True)
    paths.qemu_saved.write_text("{}")
    with pytest.raises(B2dError):
        driver.restore_snapshot("none of that name")
    assert driver.state() == MachineState.SAVED
    assert len(snapshots(paths)) == 1
    disk.take("one")
    driver.restore_snapshot("one")
    assert driver.state() == MachineState.STOPPED
    assert names(paths) == ["one"] and len(snapshots(paths)) == 1


@pytest.mark.qemu
def test_a_running_guest_continues_when_a_snapshot_has_no_space(paths: MachinePaths, tiny_image: Image) -> None:
    driver = QemuDriver(tiny_guest.spec()._replace(disk_mib=64), paths, lambda: tiny_image, QemuSettings("tcg"))
    driver.create(b"payload")
    try:
        driver.start()
        wait_for_count(driver, 3)
        pid = int(paths.qemu_pid.read_text())
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (paths.disk_qcow2.stat().st_size, resource.RLIM_INFINITY))
        taken = []
        with pytest.raises(B2dError):
            for number in range(20):  # each needs an L1 table of its own, for which the file may have had room
                driver.take_snapshot(f"n{number}")
                taken.append(f"n{number}")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        assert names(paths) == taken
        assert driver.state() == MachineState.RUNNING
        wait_for_count(driver, max(tiny_guest.counts(driver.console())) + 3)
        driver.take_snapshot("last")
        driver.kill()
        assert is_undamaged(paths.disk_qcow2)
        assert names(paths)[-1] == "last"
    finally:
        driver.delete()
