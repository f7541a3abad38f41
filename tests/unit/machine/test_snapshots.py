"""The `snapshot` commands in every state: the disk's content is restored, and nothing else."""

from collections.abc import Callable
from typing import NoReturn

import pytest

from b2d.errors import B2dError, ConfigError, InvalidStateError, MachineNotFoundError
from b2d.machine.snapshots import SnapshotCommands
from b2d.models import OFF_STATES, MachineState
from tests.support.fake_machine import Box

THERE = [state for state in MachineState if state != MachineState.ABSENT]
TAKEN_OF = [MachineState.RUNNING, MachineState.STOPPED, MachineState.CRASHED]
GOES_BACK = [MachineState.STOPPED, MachineState.CRASHED, MachineState.SAVED]


def snapshots(box: Box) -> SnapshotCommands:
    return SnapshotCommands(box.machine())


def agree(_: str) -> None:
    """Agree to everything."""


def decline(question: str) -> NoReturn:
    raise B2dError(question)


def names(box: Box) -> list[str]:
    return [snapshot.name for snapshot in snapshots(box).all()]


def put(box: Box, data: bytes) -> None:
    box.hypervisor.machines["box"].payload = data


def data(box: Box) -> bytes:
    return box.hypervisor.machines["box"].payload


@pytest.mark.parametrize("state", TAKEN_OF)
def test_a_snapshot_does_not_change_the_state_of_a_machine(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    snapshot = snapshots(box).create("one")
    assert snapshots(box).all() == [snapshot]
    assert machine.state() == state
    assert box.calls == ["take_snapshot"]
    assert box.guest.commands == (["sync"] if state == MachineState.RUNNING else [])
    assert box.reporter.texts("step") == ["taking the snapshot one"]


@pytest.mark.parametrize("state", [state for state in THERE if state not in TAKEN_OF])
def test_a_machine_in_another_state_cannot_be_snapshotted(box: Box, state: MachineState) -> None:
    box.in_state(state)
    with pytest.raises(InvalidStateError, match=f"box is {state}"):
        snapshots(box).create("one")
    assert box.calls == []


def test_a_guest_that_cannot_sync_is_a_warning_and_the_snapshot_is_created(box: Box) -> None:
    box.in_state(MachineState.RUNNING)
    box.guest.reachable = False
    snapshots(box).create("one")
    assert names(box) == ["one"]
    assert box.reporter.texts("warn")[0].startswith("the guest did not write its cached data")


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a b", "a\n", "ü", "nul", "x" * 64])
def test_an_invalid_snapshot_name_is_refused(box: Box, name: str) -> None:
    box.in_state(MachineState.STOPPED)
    with pytest.raises(ConfigError, match="is not a valid snapshot name"):
        snapshots(box).create(name)
    assert box.calls == []


@pytest.mark.parametrize("name", ["one", "ONE"])
def test_a_snapshot_name_in_use_is_refused(box: Box, name: str) -> None:
    box.in_state(MachineState.STOPPED)
    put(box, b"first")
    snapshots(box).create("one")
    put(box, b"second")
    with pytest.raises(B2dError, match=f"box has a snapshot {name} already"):
        snapshots(box).create(name)
    snapshots(box).restore("one", agree)
    assert data(box) == b"first"


@pytest.mark.parametrize("state", GOES_BACK)
def test_restore_reverts_the_disk_and_discards_a_saved_state(box: Box, state: MachineState) -> None:
    machine = box.in_state(MachineState.STOPPED)
    put(box, b"then")
    snapshots(box).create("one")
    machine.delete()
    box.in_state(state)
    put(box, b"then")
    box.driver().take_snapshot("one")
    put(box, b"now")
    questions: list[str] = []
    snapshots(box).restore("one", questions.append)
    assert data(box) == b"then"
    assert machine.state() == MachineState.STOPPED
    assert ("saved state" in questions[0]) == (state == MachineState.SAVED)
    assert names(box) == ["one"]


@pytest.mark.parametrize("state", GOES_BACK)
def test_without_confirmation_disk_and_state_are_unchanged(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    box.driver().take_snapshot("one")
    put(box, b"now")
    with pytest.raises(B2dError, match="data written since then"):
        snapshots(box).restore("one", decline)
    assert (data(box), machine.state()) == (b"now", state)


@pytest.mark.parametrize("state", [state for state in THERE if state not in GOES_BACK])
def test_the_disk_of_a_running_machine_is_not_restored(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    box.driver().take_snapshot("one")
    put(box, b"now")
    with pytest.raises(InvalidStateError) as caught:
        snapshots(box).restore("one", agree)
    assert caught.value.hint == "b2d stop --vm box"
    assert (data(box), machine.state()) == (b"now", state)


def test_a_machine_started_during_the_confirmation_keeps_its_disk(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    snapshots(box).create("one")
    put(box, b"now")
    with pytest.raises(InvalidStateError):
        snapshots(box).restore("one", lambda _: (machine.up(), None)[1])
    assert data(box) == b"now"


def test_a_restored_disk_has_its_old_size_and_the_spec_follows(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    snapshots(box).create("one")
    box.driver().grow_disk(1000)
    snapshots(box).restore("one", agree)
    assert machine.spec().disk_mib == box.hypervisor.machines["box"].disk_mib == 256
    assert box.reporter.texts("note") == []
    box.driver().grow_disk(1000)
    box.store.write(box.spec(disk_mib=1000))
    snapshots(box).restore("one", agree)
    assert machine.spec().disk_mib == 256
    assert box.reporter.texts("note") == ["the disk has 256 MiB, as at the time of the snapshot"]


@pytest.mark.parametrize("state", THERE)
def test_deleting_a_snapshot_changes_nothing_else_in_every_state(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    for name in ("one", "two"):
        box.driver().take_snapshot(name)
    put(box, b"now")
    snapshots(box).delete("one")
    assert names(box) == ["two"]
    assert (data(box), machine.state()) == (b"now", state)


def test_a_missing_snapshot_is_reported_with_the_existing_ones_and_a_suggestion(box: Box) -> None:
    box.in_state(MachineState.STOPPED)
    with pytest.raises(B2dError, match=r"^box has no snapshot 'befor'\. It has none$"):
        snapshots(box).delete("befor")
    for name in ("before", "x"):
        snapshots(box).create(name)
    message = r"^box has no snapshot 'befor': did you mean 'before'\? It has before, x$"
    with pytest.raises(B2dError, match=message) as caught:
        snapshots(box).restore("befor", agree)
    assert caught.value.hint == "b2d snapshot list --vm box"
    with pytest.raises(B2dError, match=message):
        snapshots(box).delete("befor")


def test_a_missing_machine_has_no_snapshots(box: Box) -> None:
    verbs: list[Callable[[], object]] = [
        snapshots(box).all,
        lambda: snapshots(box).create("one"),
        lambda: snapshots(box).delete("one"),
    ]
    for verb in verbs:
        with pytest.raises(MachineNotFoundError):
            verb()
    box.create_machine()
    box.hypervisor.machines.clear()
    with pytest.raises(MachineNotFoundError):
        snapshots(box).create("one")


@pytest.mark.parametrize("state", sorted(OFF_STATES - {MachineState.ABSENT}))
def test_a_failed_operation_changes_nothing(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    box.driver().take_snapshot("one")
    put(box, b"now")
    box.hypervisor.snapshot_fails = B2dError("the disk of this host is full")
    verbs: list[Callable[[], object]] = [
        lambda: snapshots(box).create("two"),
        lambda: snapshots(box).restore("one", agree),
        lambda: snapshots(box).delete("one"),
    ]
    for verb in verbs:
        with pytest.raises(B2dError, match="is full"):
            verb()
    assert (names(box), data(box), machine.state()) == (["one"], b"now", state)
