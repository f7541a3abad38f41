"""The effect of each verb on a machine in every state."""

import math
from collections.abc import Callable

import pytest

from b2d.errors import B2dError, HypervisorError, InvalidStateError, MachineNotFoundError
from b2d.machine import shutdown
from b2d.machine.lifecycle import Machine
from b2d.models import MachineState
from tests.support.fake_machine import Box, Source
from tests.support.fakes import a_spec

ABSENT, STOPPED, STARTING, RUNNING, PAUSED, SAVED, STOPPING, CRASHED = MachineState
Outcome = bool | int  # the result of the verb, or the exit code of its error


def deleted(machine: Machine) -> bool:
    machine.delete()
    return True


VERBS: dict[str, Callable[[Machine], object]] = {
    "init": lambda machine: machine.init(Source(lambda: pytest.fail("nothing was to be made"))),
    "up": lambda machine: machine.up() is not None,
    "stop": Machine.stop,
    "poweroff": Machine.poweroff,
    "restart": lambda machine: machine.restart() is not None,
    "reset": lambda machine: machine.reset() is not None,
    "save": Machine.save,
    "delete": deleted,
    "facts": lambda machine: machine.facts() is not None,
    "guest": lambda machine: machine.guest() is not None,
}

# verb, state before: result, calls of the driver, state after
TABLE: dict[tuple[str, MachineState], tuple[Outcome, list[str], MachineState]] = {
    **{("init", state): (False, [], state) for state in MachineState if state != ABSENT},
    ("up", ABSENT): (3, [], ABSENT),
    ("up", STOPPED): (True, ["start"], RUNNING),
    ("up", STARTING): (True, [], STARTING),
    ("up", RUNNING): (True, [], RUNNING),
    ("up", PAUSED): (True, ["start"], RUNNING),
    ("up", SAVED): (True, ["start"], RUNNING),
    ("up", STOPPING): (True, ["kill", "start"], RUNNING),
    ("up", CRASHED): (True, ["kill", "start"], RUNNING),
    ("stop", ABSENT): (3, [], ABSENT),
    ("stop", STOPPED): (False, [], STOPPED),
    ("stop", STARTING): (True, ["stop", "kill"], STOPPED),
    ("stop", RUNNING): (True, ["stop", "kill"], STOPPED),
    ("stop", PAUSED): (True, ["stop", "kill"], STOPPED),
    ("stop", SAVED): (False, [], SAVED),
    ("stop", STOPPING): (True, ["kill"], STOPPED),
    ("stop", CRASHED): (False, ["kill"], STOPPED),
    ("poweroff", ABSENT): (3, [], ABSENT),
    **{("poweroff", state): (True, ["kill"], STOPPED) for state in (STARTING, RUNNING, PAUSED, STOPPING)},
    ("poweroff", STOPPED): (False, ["kill"], STOPPED),
    ("poweroff", SAVED): (False, ["kill"], SAVED),
    ("poweroff", CRASHED): (False, ["kill"], STOPPED),
    ("restart", ABSENT): (3, [], ABSENT),
    ("restart", STOPPED): (True, ["start"], RUNNING),
    ("restart", RUNNING): (True, ["stop", "kill", "start"], RUNNING),
    **{("restart", state): (True, ["stop", "kill", "start"], RUNNING) for state in (STARTING, PAUSED)},
    ("restart", STOPPING): (True, ["kill", "start"], RUNNING),
    ("restart", SAVED): (True, ["start"], RUNNING),
    ("restart", CRASHED): (True, ["kill", "start"], RUNNING),
    ("reset", ABSENT): (3, [], ABSENT),
    **{("reset", state): (True, ["kill", "start"], RUNNING) for state in (STARTING, RUNNING)},
    **{("reset", state): (4, [], state) for state in (STOPPED, PAUSED, SAVED, STOPPING, CRASHED)},
    ("save", ABSENT): (3, [], ABSENT),
    **{("save", state): (4, [], state) for state in (STOPPED, STARTING, STOPPING, CRASHED)},
    **{("save", state): (True, ["save"], SAVED) for state in (RUNNING, PAUSED)},
    ("save", SAVED): (False, [], SAVED),
    **{("delete", state): (True, ["delete"], ABSENT) for state in MachineState if state != ABSENT},
    ("delete", ABSENT): (True, [], ABSENT),
    **{(verb, ABSENT): (3, [], ABSENT) for verb in ("facts", "guest")},
    **{(verb, state): (True, [], state) for verb in ("facts", "guest") for state in (STARTING, RUNNING)},
    **{
        (verb, state): (4, [], state)
        for verb in ("facts", "guest")
        for state in (STOPPED, PAUSED, SAVED, STOPPING, CRASHED)
    },
}


@pytest.mark.parametrize(("verb", "before"), TABLE, ids=str)
def test_a_verb_has_the_documented_result_in_every_state(box: Box, verb: str, before: MachineState) -> None:
    outcome, called, after = TABLE[verb, before]
    machine = box.in_state(before)
    try:
        answer: object = VERBS[verb](machine)
    except B2dError as error:
        answer = error.exit_code
        assert error.hint
    assert (answer, type(answer)) == (outcome, type(outcome))
    assert [call for call in box.calls if call not in ("check", "create")] == called
    assert machine.state() == after


@pytest.mark.parametrize("state", [state for state in MachineState if state not in (STARTING, RUNNING)])
def test_the_env_file_is_removed_when_the_machine_ends(box: Box, state: MachineState) -> None:
    """A machine in a state that b2d did not cause may have one; its readers ask the driver."""
    machine = box.in_state(state)
    if state in (STOPPED, SAVED, ABSENT):
        assert not box.paths.env.exists()
    for end in (machine.stop, machine.poweroff, machine.delete):
        if state != ABSENT or end == machine.delete:
            end()
        assert not box.paths.env.exists()


def test_init_creates_the_requested_machine_once(box: Box) -> None:
    machine = box.machine()
    assert machine.init(Source(box.spec)) is True
    assert machine.init(Source(lambda: a_spec("another"))) is False
    assert machine.spec() == box.spec()
    assert machine.state() == STOPPED
    assert box.hypervisor.machines["box"].payload.startswith(b"boot2docker, please format-me")
    assert box.paths.ssh_public_key.read_bytes() in box.hypervisor.machines["box"].payload


def test_nothing_is_created_with_an_unusable_hypervisor(box: Box) -> None:
    box.hypervisor.unusable = HypervisorError("there is none", hint="b2d doctor --fix")
    with pytest.raises(HypervisorError):
        box.create_machine()
    assert box.machine().exists() is False
    box.hypervisor.unusable = None
    assert box.create_machine().state() == STOPPED


def test_a_failing_spec_leaves_nothing(box: Box) -> None:
    def wished() -> None:
        raise B2dError("no network")

    with pytest.raises(B2dError, match="no network"):
        box.machine().init(Source(wished))  # type: ignore[arg-type]
    assert box.machine().exists() is False
    assert box.calls == []


def test_a_machine_without_its_disk_is_absent_for_all_verbs_and_can_be_recreated(box: Box) -> None:
    machine = box.in_state(STOPPED)
    box.hypervisor.machines.clear()
    for verb in (machine.up, machine.save, machine.reset, machine.facts, machine.guest):
        with pytest.raises(MachineNotFoundError) as caught:
            verb()
        assert caught.value.hint
    assert machine.stop() is False
    assert machine.init(Source(lambda: box.spec(memory_mib=640))) is True
    assert machine.spec().memory_mib == 640
    assert machine.state() == STOPPED


def test_an_incomplete_machine_is_deleted_completely(box: Box) -> None:
    box.in_state(STOPPED)
    box.paths.spec.unlink()
    box.hypervisor.machines.clear()
    assert box.paths.ssh_key.exists()
    box.machine().delete()
    assert not box.paths.folder.exists()


def test_a_deleted_machine_leaves_no_file_except_the_lock(box: Box) -> None:
    box.in_state(RUNNING).delete()
    assert [path.name for path in box.home.machines.iterdir()] == [".box.lock"]


def test_a_guest_that_ignores_the_power_button_is_killed_with_a_warning(box: Box) -> None:
    machine = box.in_state(RUNNING)
    box.hypervisor.missed_presses = math.inf
    assert machine.stop() is True
    assert box.calls == ["stop", "kill"]
    assert machine.state() == STOPPED
    assert len(box.reporter.texts("warn")) == 1
    assert "its power was cut" in box.reporter.texts("warn")[0]


def test_the_power_button_is_pressed_again_for_a_guest_that_boots(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "PRESS_AGAIN_S", 0.05)
    machine = box.in_state(RUNNING)
    box.hypervisor.missed_presses = 2
    box.stop_wait_s = 5
    assert machine.stop() is True
    assert box.calls == ["stop", "stop", "stop", "kill"]
    assert box.reporter.texts("warn") == []


@pytest.mark.parametrize(
    ("console", "calls"),
    [
        ("b2d: 1.0 kernel\nb2d: fail no disk\n", ["kill", "kill"]),
        ("b2d: 1.0 kernel\nb2d: warn no disk\n", ["stop", "kill"]),
        ("b2d: 1.0 kernel\nb2d: 1.1 root\nb2d: fail dockerd exits\n", ["stop", "kill"]),
        ("b2d: fail no disk\nb2d: 1.0 kernel\n", ["stop", "kill"]),  # of an earlier boot
        ("b2d: fail dockerd exits\n", ["stop", "kill"]),  # its beginning was truncated
        ("b2d: 9.0 ssh\nb2d: fail dockerd exits\n", ["stop", "kill"]),
        ("boot2docker login: ", ["stop", "kill"]),
        ("", ["stop", "kill"]),
    ],
)
def test_only_a_guest_without_a_root_file_system_loses_its_power_at_once(
    box: Box, console: str, calls: list[str]
) -> None:
    machine = box.in_state(RUNNING)
    box.hypervisor.machines["box"].console = console
    assert machine.stop() is True
    assert box.calls == calls
    assert machine.state() == STOPPED


def test_a_guest_that_is_shutting_down_is_waited_for(box: Box) -> None:
    machine = box.in_state(STOPPING)
    box.looks_until_off = 2
    box.stop_wait_s = 5
    assert box.machine().stop() is True
    assert machine.state() == STOPPED
    assert box.reporter.texts("warn") == []


@pytest.mark.parametrize("verb", ["stop", "save"])
def test_a_machine_that_cannot_be_stopped_keeps_its_env_file(box: Box, verb: str) -> None:
    machine = box.in_state(RUNNING)
    before = machine.facts()
    box.hypervisor.hang = True
    with pytest.raises(HypervisorError):
        getattr(machine, verb)()
    box.hypervisor.hang = False
    assert machine.facts() == before


def test_a_failed_save_leaves_the_machine_running_with_its_env_file(box: Box) -> None:
    machine = box.in_state(RUNNING)
    before = machine.facts()
    box.hypervisor.save_fails = B2dError("the disk is full")
    with pytest.raises(B2dError, match="the disk is full"):
        machine.save()
    assert machine.state() == RUNNING
    assert machine.facts() == before


def test_the_guest_is_reached_at_its_recorded_endpoint(box: Box) -> None:
    machine = box.in_state(RUNNING)
    machine.guest().run("true", 1)
    assert box.guest.commands == ["true"]
    assert box.machine().facts().address == box.spec().address


def test_docker_is_pinged_once_and_may_not_answer(box: Box) -> None:
    machine = box.in_state(RUNNING)
    answer = machine.answers(2)
    assert answer is not None
    assert answer.api_version == "1.45"
    box.docker_answers = False
    assert machine.answers(2) is None
    machine.stop()
    assert machine.answers(2) is None


def test_a_running_machine_without_facts_is_not_up_yet(box: Box) -> None:
    machine = box.in_state(RUNNING)
    box.store.remove_env("box")
    with pytest.raises(InvalidStateError, match="not up yet") as caught:
        machine.facts()
    assert caught.value.hint == "b2d up --vm box"
