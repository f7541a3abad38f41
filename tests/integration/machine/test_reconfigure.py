"""The changes of `set` in every state: running and saved machines are not touched, and data is never lost."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2d.errors import ConfigError, InvalidStateError, MachineLockedError, MachineNotFoundError
from b2d.machine.reconfigure import FIELDS, Change, Changes, apply_changes
from b2d.models import MachineState
from tests.support.fake_machine import DOCKER, SSH, Box, Interrupter

OFF = (MachineState.STOPPED, MachineState.CRASHED)
THERE = [state for state in MachineState if state != MachineState.ABSENT]
WISHES = {
    "memory": st.integers(256, 4096),
    "cpus": st.integers(0, 8),
    "disk": st.integers(200, 400),
    "ssh_port": st.integers(2000, 2004),
    "docker_port": st.integers(2000, 2004),
}


def wish(box: Box, **wanted: int) -> Changes:
    return apply_changes(box.machine(), wanted)


@pytest.mark.parametrize("state", THERE)
def test_changes_are_stored_in_every_state_and_the_state_stays(box: Box, state: MachineState) -> None:
    box.in_state(state)
    spec = box.machine().spec()
    change = wish(box, memory=640, cpus=1, ssh_port=SSH + 5)
    assert change == Changes([Change("memory", 512, 640), Change("ssh_port", SSH, SSH + 5)], state)
    now = box.machine().spec()
    assert (now.memory_mib, now.cpus, now.ssh_port) == (640, 1, SSH + 5)
    assert (now.disk_mib, now.address, now.docker_port, now.image) == (256, spec.address, DOCKER, spec.image)
    assert box.machine().state() == state
    assert box.calls == []


@pytest.mark.parametrize("state", OFF)
def test_a_machine_that_is_off_gets_the_larger_disk_at_once(box: Box, state: MachineState) -> None:
    box.in_state(state)
    payload = box.hypervisor.machines["box"].payload
    change = wish(box, disk=1000)
    assert change.changes == [Change("disk", 256, 1000)]
    assert box.machine().spec().disk_mib == 1000
    assert box.hypervisor.machines["box"].disk_mib == 1000
    assert box.hypervisor.machines["box"].payload == payload


@pytest.mark.parametrize("state", [state for state in THERE if state not in OFF])
def test_a_disk_in_use_cannot_grow_and_no_other_change_is_stored(box: Box, state: MachineState) -> None:
    box.in_state(state)
    spec = box.machine().spec()
    with pytest.raises(InvalidStateError):
        wish(box, memory=640, disk=1000)
    assert box.machine().spec() == spec
    assert box.hypervisor.machines["box"].disk_mib == 256


@pytest.mark.parametrize("state", THERE)
def test_a_disk_never_shrinks(box: Box, state: MachineState) -> None:
    box.in_state(state)
    spec = box.machine().spec()
    with pytest.raises(ConfigError, match="has 256 MiB and cannot shrink") as caught:
        wish(box, memory=640, disk=255)
    assert caught.value.exit_code == 2
    assert box.machine().spec() == spec
    assert box.hypervisor.machines["box"].disk_mib == 256


def test_a_disk_larger_than_its_spec_counts_with_its_real_size(box: Box) -> None:
    """The disk was adopted with its data, or a growth was interrupted before the spec was stored."""
    box.in_state(MachineState.STOPPED)
    box.hypervisor.machines["box"].disk_mib = 1000
    with pytest.raises(ConfigError):
        wish(box, disk=999)
    assert wish(box, disk=1000).changes == [Change("disk", 256, 1000)]
    assert box.calls == []


def test_a_missing_machine_is_reported(box: Box) -> None:
    with pytest.raises(MachineNotFoundError):
        wish(box, memory=640)
    box.in_state(MachineState.STOPPED)
    box.hypervisor.machines.clear()
    with pytest.raises(MachineNotFoundError):
        wish(box, disk=1000)


def test_ssh_and_docker_cannot_share_a_port(box: Box) -> None:
    box.in_state(MachineState.STOPPED)
    with pytest.raises(ConfigError):
        wish(box, ssh_port=DOCKER)
    assert wish(box, ssh_port=DOCKER, docker_port=SSH).changes != []


def test_equal_values_change_nothing(box: Box) -> None:
    box.in_state(MachineState.RUNNING)
    written = box.paths.spec.stat().st_mtime_ns
    assert wish(box, memory=512, disk=256).changes == []
    assert box.paths.spec.stat().st_mtime_ns == written


def test_a_locked_machine_is_busy(box: Box) -> None:
    box.in_state(MachineState.STOPPED)
    with box.store.lock("box", "up"), pytest.raises(MachineLockedError):
        wish(box, memory=640)


def test_a_change_takes_effect_at_the_next_start(box: Box) -> None:
    machine = box.in_state(MachineState.RUNNING)
    wish(box, memory=640)
    had = box.driver().effective_spec()
    assert had is not None
    assert had.memory_mib == 512
    machine.restart()
    has = box.driver().effective_spec()
    assert has is not None
    assert has.memory_mib == 640


def test_a_change_can_be_interrupted_at_every_point_and_repeated(box: Box) -> None:
    for at in range(1, 40):
        machine = box.in_state(MachineState.STOPPED)
        strikes = Interrupter(at)
        with suppress(KeyboardInterrupt):
            apply_changes(box.machine(strikes), {"memory": 640, "disk": 1000})
        spec = machine.spec()
        assert (spec.memory_mib, spec.disk_mib) in ((512, 256), (640, 1000)), at
        wish(box, memory=640, disk=1000)
        assert (machine.spec().memory_mib, machine.spec().disk_mib) == (640, 1000)
        assert box.hypervisor.machines["box"].disk_mib == 1000
        machine.delete()
        if strikes.passed < at:
            return
    pytest.fail("it never came to its end")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=WISHES), max_size=4))
def test_changes_are_stored_or_refused_as_a_whole_and_the_disk_only_grows(
    box: Box, changes: list[dict[str, int]]
) -> None:
    box.in_state(MachineState.STOPPED)
    for wanted in changes:
        before, disk = box.machine().spec(), box.hypervisor.machines["box"].disk_mib
        try:
            wish(box, **wanted)
            assert all(getattr(box.machine().spec(), FIELDS[key]) == value for key, value in wanted.items())
        except ConfigError:
            assert box.machine().spec() == before
        assert box.hypervisor.machines["box"].disk_mib == max(disk, box.machine().spec().disk_mib)
    box.machine().delete()
