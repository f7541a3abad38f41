"""The snapshot commands on a QEMU machine that is off, with its real disk."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2d.drivers.qemu import qemu_img
from b2d.machine_store.store import MachineStore
from b2d.paths import MachinePaths
from tests.integration.drivers.qemu.test_qemu_img import content
from tests.support.cli import Prompt
from tests.support.fakes import a_spec

NAME = "boot2docker-vm"


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    person = Prompt(tmp_path, {"B2D_DRIVER": "qemu"})
    MachineStore(person.home).write(a_spec(disk_mib=8))
    qemu_img.create(paths(person).disk_qcow2, 8, b"payload")
    return person


def paths(prompt: Prompt) -> MachinePaths:
    return prompt.home.machine(NAME)


def test_a_snapshot_is_created_listed_restored_and_deleted(prompt: Prompt, tmp_path: Path) -> None:
    assert prompt.b2d("snapshot", "list").out == ""
    assert prompt.b2d("snapshot", "list", "--json").out == "[]\n"
    result = prompt.b2d("snapshot", "create", "before")
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines()[-1] == "the snapshot before is created"
    snapshot = json.loads(prompt.b2d("snapshot", "create", "after", "--json").out)
    assert list(snapshot) == ["name", "taken", "size"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(snapshot["taken"])).total_seconds()) < 60
    assert [row["name"] for row in json.loads(prompt.b2d("snapshot", "list", "--json").out)] == ["before", "after"]
    lines = prompt.b2d("snapshot", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "TAKEN", "SIZE"]
    assert [line.split()[0] for line in lines[1:]] == ["before", "after"]
    prompt.b2d("set", "disk=1000")
    result = prompt.b2d("snapshot", "restore", "before", "--yes")
    assert (result.code, result.out) == (0, "")
    assert "the disk has 8 MiB, as at the time of the snapshot" in result.err
    assert content(paths(prompt).disk_qcow2, tmp_path) == b"payload".ljust(8 << 20, b"\0")
    assert json.loads(prompt.b2d("info").out)["disk_mib"] == 8
    assert prompt.b2d("snapshot", "delete", "before").code == 0
    assert [line.split()[0] for line in prompt.b2d("snapshot", "list").out.splitlines()[1:]] == ["after"]


def test_without_a_terminal_restore_changes_nothing(prompt: Prompt) -> None:
    prompt.b2d("snapshot", "create", "before")
    paths(prompt).qemu_saved.write_text("{}")
    before = paths(prompt).disk_qcow2.read_bytes()
    result = prompt.b2d("snapshot", "restore", "before")
    lost = "data written since then and its saved state would be lost"
    unconfirmed = (
        f"the disk of {NAME} would be restored from before: {lost}; stdin is not a terminal to confirm this on"
    )
    message = f"b2d: {unconfirmed}\n     try: --yes\n"
    assert (result.code, result.out, result.err) == (2, "", message)
    assert paths(prompt).disk_qcow2.read_bytes() == before
    assert prompt.b2d("snapshot", "create", "another").code == 4


@pytest.mark.parametrize(("verb", "code"), [("create", 1), ("restore", 1), ("delete", 1)])
def test_an_invalid_name_is_reported_and_nothing_is_changed(prompt: Prompt, verb: str, code: int) -> None:
    prompt.b2d("snapshot", "create", "before")
    before = paths(prompt).disk_qcow2.read_bytes()
    result = prompt.b2d("snapshot", verb, "before" if verb == "create" else "befor")
    assert result.code == code
    assert ("has a snapshot before already" if verb == "create" else "did you mean 'before'?") in result.err
    assert prompt.b2d("snapshot", "create", "../x").code == 2
    assert paths(prompt).disk_qcow2.read_bytes() == before


def test_delete_removes_the_machine_with_its_snapshots(prompt: Prompt) -> None:
    prompt.b2d("snapshot", "create", "before")
    assert prompt.b2d("delete", "--yes").code == 0
    assert not paths(prompt).folder.exists()
    assert prompt.b2d("snapshot", "list").code == 3


def test_disk_usage_is_shown_and_the_disk_grows_and_is_compacted(prompt: Prompt) -> None:
    shown = json.loads(prompt.b2d("disk", "--json").out)
    room = shown["room"]
    assert shown == {"name": NAME, "size": 8 << 20, "room": room, "files": None, "templates": 0}
    assert 0 < room < 1 << 20
    assert prompt.b2d("disk").out == prompt.b2d("disk", "show").out
    assert prompt.b2d("disk").out.splitlines()[1].split()[-2:] == ["8.0", "MiB"]
    grown = json.loads(prompt.b2d("disk", "grow", "1000", "--json").out)
    assert grown == {"disk": {"key": "disk", "before": 8, "after": 1000, "counts": "start"}}
    assert json.loads(prompt.b2d("disk", "--json").out)["size"] == 1000 << 20
    assert prompt.b2d("disk", "grow", "1000").err == f"the disk of {NAME} has 1000 MiB already\n"
    for wrong in ("7", "999", "40G"):
        assert prompt.b2d("disk", "grow", wrong).code == 2
    result = prompt.b2d("disk", "compact", "--json")
    assert (result.code, list(json.loads(result.out))) == (0, ["name", "before", "after", "done"])
    prompt.b2d("snapshot", "create", "one")
    refused = prompt.b2d("disk", "compact")
    assert (refused.code, refused.err.splitlines()[-1]) == (4, "     try: b2d up && b2d disk compact")
