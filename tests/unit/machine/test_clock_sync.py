"""The clock of a guest after a sleep, measured by its Docker's date."""

from dataclasses import dataclass, field

import pytest

from b2d.errors import B2dError
from b2d.guest.readiness import Ping
from b2d.machine.clock_sync import sync_guest_clock
from b2d.models import CommandResult
from tests.support.fakes import FakeDriver, FakeGuest, FakeReporter, a_spec

NOW = 1_800_000_000.25


@dataclass
class Sleeper(FakeGuest):
    """A guest with a clock `ahead_s` before the host's, which its Docker reports in whole seconds."""

    ahead_s: float = 0
    now: float = NOW
    heeds: bool = True  # False: it accepts the command and does nothing
    exit_code: int = 0
    answers: dict[str, CommandResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.answers)
        self.visits = 0
        self.silent = False

    def run(self, command: str, timeout_s: float, limit: int = 0) -> CommandResult:
        super().run(command, timeout_s)
        if self.exit_code:
            return CommandResult(self.exit_code, b"", b"sudo: no\n")
        if self.heeds:
            moved, _, saving = command.partition(" && ")
            assert saving.startswith("sudo hwclock -w"), "the guest would go back to what its clock chip shows"
            self.ahead_s += int(moved.rsplit("+", maxsplit=1)[-1].strip(" )"))
        return CommandResult(0, b"", b"")

    def ping(self) -> Ping | None:
        return None if self.silent else Ping("1.45", float(int(self.now + self.ahead_s)))

    def visit(self) -> FakeGuest:
        self.visits += 1
        return self


class Line(FakeDriver):
    """A driver that can set the guest's clock."""

    def __init__(self, guest: Sleeper, *, listens: bool = True) -> None:
        super().__init__(a_spec())
        self._guest = guest
        self._listens = listens

    def move_clock(self, seconds: int) -> None:
        self.calls.append("move_clock")
        if not self._listens:
            raise B2dError("the guest does not answer on its control port")
        if self._guest.heeds:
            self._guest.ahead_s += seconds


def woken(guest: Sleeper, answer: Ping | None = None, driver: FakeDriver | None = None) -> FakeReporter:
    reporter = FakeReporter()
    first = answer or guest.ping()
    assert first is not None
    sync_guest_clock(first, guest.ping, driver or FakeDriver(a_spec()), guest.visit, reporter, lambda: guest.now)
    return reporter


@pytest.mark.parametrize("ahead_s", [-0.9, 0, 0.9])
@pytest.mark.parametrize("second", [0.0, 0.25, 0.49])
def test_a_correct_clock_needs_no_connection(ahead_s: float, second: float) -> None:
    guest = Sleeper(ahead_s=ahead_s / 2, now=NOW + second)
    assert woken(guest).messages == []
    assert guest.visits == 0


@pytest.mark.parametrize(
    ("ahead_s", "deviation"), [(-3600.0, "3600 s behind"), (7200.0, "7200 s ahead"), (-2.0, "2 s behind")]
)
def test_a_wrong_clock_is_set_and_that_is_reported(ahead_s: float, deviation: str) -> None:
    guest = Sleeper(ahead_s=ahead_s)
    reporter = woken(guest)
    assert abs(guest.ahead_s) <= 1
    assert reporter.messages == [("note", f"the guest's clock was {deviation}; it is correct now")]
    assert guest.visits == 1
    assert guest.commands[0].startswith("sudo date -u -s @")


def test_a_guest_without_a_date_is_left_alone() -> None:
    guest = Sleeper(ahead_s=-3600)
    assert woken(guest, Ping("1.45", None)).messages == []
    assert guest.visits == 0


def test_a_clock_that_cannot_be_checked_is_not_reported_as_correct() -> None:
    guest = Sleeper(ahead_s=-3600)
    first = guest.ping()
    guest.silent = True
    reporter = woken(guest, first)
    assert guest.ahead_s == 0
    assert reporter.messages == [("note", "the guest's clock was 3600 s behind; it was set")]


def test_a_clock_that_cannot_be_set_is_a_warning() -> None:
    reporter = woken(Sleeper(ahead_s=-3600, exit_code=1))
    assert reporter.messages == [("warn", "the guest's clock is 3600 s behind and could not be set: sudo: no")]


def test_a_guest_that_cannot_be_reached_is_a_warning() -> None:
    guest = Sleeper(ahead_s=-3600)
    guest.reachable = False
    reporter = woken(guest)
    assert reporter.texts("warn") == [
        "the guest's clock is 3600 s behind and could not be set: the guest cannot be reached"
    ]


def test_a_clock_that_reverts_is_set_three_times_at_most() -> None:
    guest = Sleeper(ahead_s=-3600, heeds=False)
    reporter = woken(guest)
    assert reporter.messages == [("warn", "the guest's clock is 3600 s behind, although it was set 3 times")]
    assert len(guest.commands) == 3
    assert guest.visits == 1


def test_a_driver_that_can_set_the_clock_needs_no_connection() -> None:
    guest = Sleeper(ahead_s=-3600)
    driver = Line(guest)
    assert woken(guest, driver=driver).messages == [("note", "the guest's clock was 3600 s behind; it is correct now")]
    assert (driver.calls, guest.visits) == (["move_clock"], 0)


def test_a_guest_that_ignores_the_driver_is_set_over_ssh() -> None:
    guest = Sleeper(ahead_s=-3600)
    driver = Line(guest, listens=False)
    assert woken(guest, driver=driver).messages == [("note", "the guest's clock was 3600 s behind; it is correct now")]
    assert (driver.calls, guest.visits) == (["move_clock"], 1)
