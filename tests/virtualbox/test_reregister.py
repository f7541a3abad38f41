"""A machine that VirtualBox lost, wholly or partly, is registered again with its data."""

import shutil
from pathlib import Path

import pytest

from b2d.errors import InvalidStateError
from b2d.models import MachineState
from b2d.paths import MachinePaths
from tests.support.virtualbox_case import VirtualBoxCase, vboxmanage

pytestmark = pytest.mark.virtualbox


def unregister(machine: VirtualBoxCase) -> None:
    vboxmanage("unregistervm", machine.spec.name)
    vboxmanage("closemedium", "disk", str(machine.paths.disk_vdi))


def first_sector(disk: Path, tmp_path: Path) -> bytes:
    """Return the first sector of a disk."""
    raw = tmp_path / "raw"
    vboxmanage("clonemedium", "disk", str(disk), str(raw), "--format", "RAW")
    try:
        with raw.open("rb") as content:
            return content.read(512)
    finally:
        vboxmanage("closemedium", "disk", str(raw), "--delete")


def move_folder(machine: VirtualBoxCase, target: Path) -> None:
    """Move the machine's folder."""
    shutil.move(machine.paths.folder, target)
    machine.paths = MachinePaths(target)


def test_an_unregistered_machine_starts_with_its_disk(machine: VirtualBoxCase, tmp_path: Path) -> None:
    unregister(machine)
    assert machine.driver().state() == MachineState.STOPPED
    with pytest.raises(InvalidStateError, match="already"):
        machine.driver().create(b"another payload")
    machine.boot()
    machine.driver().kill()
    assert first_sector(machine.paths.disk_vdi, tmp_path).startswith(b"payload")


def test_an_unregistered_machine_can_be_deleted(machine: VirtualBoxCase) -> None:
    vboxmanage("unregistervm", machine.spec.name)
    machine.driver().delete()
    assert machine.driver().state() == MachineState.ABSENT
    assert not machine.paths.disk_vdi.exists() and not machine.paths.virtualbox.exists()
    machine.driver().create(b"payload")


def test_a_moved_machine_starts_at_its_new_path(machine: VirtualBoxCase, tmp_path: Path) -> None:
    before = str(machine.paths.folder)
    machine.boot()
    machine.driver().kill()
    move_folder(machine, tmp_path / "another home")
    assert machine.driver().state() == MachineState.STOPPED
    machine.boot()
    assert before not in vboxmanage("showvminfo", machine.spec.name, "--machinereadable") + vboxmanage("list", "hdds")


def test_a_moved_saved_machine_boots_at_its_new_path(machine: VirtualBoxCase, tmp_path: Path) -> None:
    """Its saved state refers to serial port files at the old path."""
    machine.boot()
    machine.driver().save()
    move_folder(machine, tmp_path / "another home")
    assert machine.driver().state() == MachineState.SAVED
    machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING


def test_an_incomplete_machine_is_completed(machine: VirtualBoxCase) -> None:
    vboxmanage("storageattach", machine.spec.name, "--storagectl", "SATA", "--port", "0", "--medium", "none")
    vboxmanage("closemedium", "disk", str(machine.paths.disk_vdi), "--delete")
    assert machine.driver().state() == MachineState.ABSENT
    machine.driver().create(b"payload")
    machine.boot()


def test_a_disk_without_a_machine_is_adopted(machine: VirtualBoxCase, tmp_path: Path) -> None:
    unregister(machine)
    shutil.rmtree(machine.paths.virtualbox)
    assert machine.driver().state() == MachineState.ABSENT
    machine.driver().create(b"another payload")
    machine.boot()
    machine.driver().kill()
    assert first_sector(machine.paths.disk_vdi, tmp_path).startswith(b"payload")
