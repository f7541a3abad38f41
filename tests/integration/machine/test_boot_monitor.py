"""The wait for a booting machine: its probes, its messages and its timeouts."""

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from b2d.errors import B2dError, GuestUnreachableError, HypervisorError, WaitTimeoutError
from b2d.guest.readiness import Ping
from b2d.machine import boot_monitor as boot_module
from b2d.machine.boot_monitor import (
    BOOT_TIMEOUTS,
    RESUME_TIMEOUTS,
    RUNNING_TIMEOUTS,
    Attempts,
    BootTimeouts,
    await_docker,
)
from b2d.models import MachineState
from tests.support.fakes import FakeDriver, FakeHypervisor, FakeReporter, a_spec
from tests.support.timing import not_waiting_for

ANSWER = Ping("1.45", None)
STAGES = [f"b2d: {second}.0 {name}" for second, name in enumerate(("kernel", "root", "disk", "network", "ssh"))]
ALL = [*STAGES, "b2d: 9.0 docker"]


class Boot:
    """One boot: the guest writes `script`, and Docker answers once the console has `answers_after`."""

    def __init__(self, script: Sequence[str] = (), answers_after: str | None = "") -> None:
        self.hypervisor = FakeHypervisor(script=script)
        self.driver = FakeDriver(a_spec("box"), self.hypervisor)
        self.driver.create(b"")
        self.driver.start()
        self.reporter = FakeReporter()
        self.answers_after = answers_after
        self.takes_s = 0.0  # one probe, unless its time is up before
        self.attempts: list[tuple[float, str]] = []  # timestamp, and the last line of the console

    def ping(self, timeout_s: float) -> Ping | None:
        console = self.driver.machine.console if self.driver.machine else ""
        self.attempts.append((timeout_s, console.rstrip().split("\n")[-1]))
        time.sleep(min(self.takes_s, timeout_s))
        in_time = self.takes_s < timeout_s
        return ANSWER if in_time and self.answers_after is not None and self.answers_after in console else None

    def awaited(self, timeout_s: float = 20, patience: BootTimeouts = RUNNING_TIMEOUTS) -> Ping:
        return await_docker("box", self.driver, Attempts(self.ping), self.reporter, timeout_s, patience)

    def failed(self, timeout_s: float = 20) -> B2dError:
        with not_waiting_for(10), pytest.raises(B2dError) as caught:
            self.awaited(timeout_s)
        assert caught.value.hint == "b2d logs --vm box"
        return caught.value


def test_the_wait_ends_with_the_first_answer_of_docker() -> None:
    boot = Boot(ALL)
    assert boot.awaited() == ANSWER
    assert len(boot.attempts) == 1


def test_docker_is_not_pinged_between_the_first_and_the_last_stage() -> None:
    boot = Boot(["noise", *ALL], answers_after="docker")
    boot.awaited()
    assert {line for _, line in boot.attempts} == {"noise", ALL[-1]}


def test_a_booting_guest_is_not_pinged_before_its_first_stage_or_a_long_silence() -> None:
    boot = Boot(["noise", *ALL], answers_after="docker")
    boot.awaited(patience=replace(BOOT_TIMEOUTS, silence_s=10))
    assert {line for _, line in boot.attempts} == {ALL[-1]}
    silent = Boot(["the console of another image"])
    begin = time.monotonic()
    silent.awaited(patience=replace(BOOT_TIMEOUTS, silence_s=0.3))
    assert time.monotonic() - begin >= 0.3


def test_pings_are_short_before_dockerd_runs_and_long_after_it() -> None:
    boot = Boot(["noise", *ALL], answers_after="docker")
    boot.awaited()
    assert [timeout_s for timeout_s, line in boot.attempts if line == "noise"] == [RUNNING_TIMEOUTS.attempt_s]
    assert boot.attempts[-1][0] >= 5


def test_a_guest_without_stages_gets_more_time_with_each_attempt() -> None:
    boot = Boot(["the console of another image"])
    boot.takes_s = 0.4
    assert boot.awaited() == ANSWER
    times = [timeout_s for timeout_s, _ in boot.attempts]
    assert times[0] == RUNNING_TIMEOUTS.attempt_s
    assert times == sorted(times)
    assert times[-1] > 0.4


def test_a_dockerd_that_listens_before_it_answers_is_pinged_with_growing_timeouts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boot_module, "ATTEMPT_S", 0.1)
    monkeypatch.setattr(boot_module, "LONGEST_S", 0.2)
    monkeypatch.setattr(boot_module, "PAUSE_S", 0.0)
    boot = Boot(ALL, answers_after="docker")
    boot.takes_s = 0.198
    boot.awaited(patience=replace(BOOT_TIMEOUTS, silence_s=10, attempt_s=0.01))
    times = [timeout_s for timeout_s, line in boot.attempts if line == ALL[-1]]
    assert times == pytest.approx([0.1, 0.125, 0.156, 0.195, 0.2], abs=0.001)


def test_a_slow_dockerd_is_not_pinged_again_before_the_guest_reports_that_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boot_module, "ATTEMPT_S", 0.1)
    boot = Boot([*ALL, "a", "few", "lines", "b2d: 30.0 ready"], answers_after="ready")
    boot.takes_s = 0.11
    boot.awaited(patience=replace(BOOT_TIMEOUTS, silence_s=10, attempt_s=0.01))
    assert [line for _, line in boot.attempts] == [ALL[-1], "b2d: 30.0 ready"]


def test_a_resumed_guest_gets_a_long_timeout() -> None:
    boot = Boot()
    boot.takes_s = 0.6
    assert boot.awaited(patience=RESUME_TIMEOUTS) == ANSWER
    assert len(boot.attempts) == 1
    assert boot.reporter.texts("step") == ["Docker API"]


def test_a_docker_that_refuses_connections_is_pinged_with_short_attempts() -> None:
    boot = Boot([f"line {number}" for number in range(5)], answers_after="line 4")
    boot.awaited()
    assert {timeout_s for timeout_s, _ in boot.attempts} == {RUNNING_TIMEOUTS.attempt_s}


def test_stages_seen_at_once_are_consecutive_steps() -> None:
    boot = Boot(["\n".join(ALL)])
    boot.awaited()
    assert [text for kind, text in boot.reporter.messages if kind == "step"][0::6] == ["kernel", "Docker API"]
    assert boot.reporter.texts("failed") == []


def test_a_crash_is_reported_at_once_with_the_last_stage_and_console_line() -> None:
    boot = Boot([*STAGES[:3], "Kernel panic"], answers_after=None)
    boot.hypervisor.dies_after = 4
    error = boot.failed()
    assert error.message == "box is crashed, before Docker answered; it had reached the stage 'disk'"
    assert error.details.split("\n")[-1] == "Kernel panic"
    assert type(error).exit_code == 1
    assert boot.reporter.texts("failed") == ["network"]


def test_console_output_just_before_the_end_is_reported() -> None:
    class Dying(FakeDriver):
        def state(self) -> MachineState:
            if self.machine is not None and self.machine.state == MachineState.RUNNING:
                self.machine.console += "b2d: fail its last words\n"
                self.crash()
            return super().state()

    boot = Boot(answers_after=None)
    boot.driver.__class__ = Dying
    assert boot.failed().message == "box could not start: its last words"


def test_a_machine_that_crashes_before_its_first_stage_is_reported() -> None:
    boot = Boot(answers_after=None)
    boot.hypervisor.dies_after = 0
    error = boot.failed()
    assert error.message == "box is crashed, before Docker answered; it had not reported a stage"


@pytest.mark.parametrize("state", [state for state in MachineState if state not in ("starting", "running")])
def test_a_machine_that_is_not_starting_is_not_waited_for(state: MachineState) -> None:
    boot = Boot(STAGES[:1], answers_after=None)
    assert boot.driver.machine is not None
    boot.driver.machine.state = state
    assert f"box is {state}, before Docker answered" in boot.failed().message


def test_a_starting_machine_is_waited_for() -> None:
    boot = Boot(ALL, answers_after="docker")
    assert boot.driver.machine is not None
    boot.driver.machine.state = MachineState.STARTING
    assert boot.awaited() == ANSWER


def test_a_failure_reported_by_the_guest_is_the_error() -> None:
    boot = Boot([*STAGES[:2], "b2d: fail the root is damaged"], answers_after=None)
    error = boot.failed()
    assert error.message == "box could not start: the root is damaged"
    assert "b2d: fail the root is damaged" in error.details


def test_the_reason_reported_by_a_guest_before_it_powers_off_is_the_error() -> None:
    boot = Boot(["b2d: fail no memory"], answers_after=None)
    boot.hypervisor.dies_after = 1
    assert boot.failed().message == "box could not start: no memory"


def test_docker_may_answer_although_the_guest_reported_a_failure() -> None:
    boot = Boot([*ALL, "b2d: fail something else"])
    assert boot.awaited() == ANSWER


def test_each_warning_is_reported_once() -> None:
    boot = Boot(["b2d: warn no disk", *ALL, "b2d: warn no disk", "b2d: warn slow", "end"], answers_after="end")
    boot.awaited()
    assert boot.reporter.texts("warn") == ["box: no disk", "box: slow"]


def test_a_timeout_names_the_last_stage() -> None:
    boot = Boot([*STAGES, "waiting for a disk"], answers_after=None)
    error = boot.failed(timeout_s=0.6)
    assert isinstance(error, WaitTimeoutError)
    assert error.message == "Docker in box did not answer within 1 s; it had reached the stage 'ssh'"
    assert error.details.split("\n")[-1] == "waiting for a disk"


def test_a_guest_without_stages_is_set_up_until_that_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_module, "SET_UP_PAUSE_S", 0.05)
    results: list[bool | Exception] = [GuestUnreachableError("no server"), False, True]
    given: list[float] = []
    boot = Boot(["the console of another image"], answers_after=None)

    def set_up(greeting_s: float) -> bool:
        given.append(greeting_s)
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        boot.answers_after = "" if result else None
        return result

    attempts = Attempts(boot.ping, set_up)
    assert await_docker("box", boot.driver, attempts, boot.reporter, 20, RUNNING_TIMEOUTS) == ANSWER
    assert results == []
    assert given == sorted(set(given))  # each attempt has more time


def test_a_guest_that_reports_stages_or_answers_is_not_set_up() -> None:
    def refuse(_: float) -> bool:
        raise AssertionError

    for boot in (Boot(ALL, answers_after="docker"), Boot(["the console of another image"])):
        assert await_docker("box", boot.driver, Attempts(boot.ping, refuse), boot.reporter, 20) == ANSWER


def test_an_error_of_the_set_up_ends_the_wait() -> None:
    def refuse(_: float) -> bool:
        raise B2dError("its host key differs")

    boot = Boot(["the console of another image"], answers_after=None)
    with not_waiting_for(10), pytest.raises(B2dError, match="its host key differs"):
        await_docker("box", boot.driver, Attempts(boot.ping, refuse), boot.reporter, 20, RUNNING_TIMEOUTS)


def test_the_tail_is_short_and_without_control_characters() -> None:
    odd = "\x1b[2J\x1b]0;title\x07red\x9b31m\u202eabc\tend\r"
    boot = Boot(["\n".join(f"line {number}" for number in range(100)) + "\n" + odd], answers_after=None)
    boot.hypervisor.dies_after = 101
    tail = boot.failed(timeout_s=20).details
    assert len(tail.split("\n")) == 20
    assert tail.split("\n")[-1] == "red31mabc\tend"


def test_an_error_of_the_hypervisor_is_raised_and_fails_the_step() -> None:
    boot = Boot(STAGES[:1], answers_after=None)

    def refuse(_: float) -> Ping | None:
        raise HypervisorError("gone")

    with pytest.raises(HypervisorError):
        await_docker("box", FakeDriver(a_spec("box")), Attempts(refuse), boot.reporter, 5, RUNNING_TIMEOUTS)
    assert boot.reporter.texts("failed") == ["kernel"]


def test_ctrl_c_ends_the_wait_and_the_machine_continues() -> None:
    boot = Boot(STAGES[:2])

    def interrupted(_: float) -> Ping | None:
        raise KeyboardInterrupt

    boot.hypervisor.script = ()
    with pytest.raises(KeyboardInterrupt):
        await_docker("box", boot.driver, Attempts(interrupted), boot.reporter, 5, RUNNING_TIMEOUTS)
    assert boot.driver.state() == MachineState.RUNNING
