"""Set the guest's clock after a resume: the guest continues at the time of its suspension."""

from collections.abc import Callable
from functools import cache

from b2d.drivers.base import Driver
from b2d.errors import B2dError
from b2d.guest.base import Guest
from b2d.guest.readiness import Ping
from b2d.reporting.base import Reporter

TOLERANCE_S = 1.0
DATE_STEP_S = 1.0  # an HTTP Date is cut to whole seconds
ATTEMPTS = 3  # whole seconds only, on both sides: one attempt may miss by more than the tolerance
COMMAND_TIMEOUT_S = 15.0
# The guest follows its clock chip, and VirtualBox continues that from the time of the save.
KEEP = "sudo hwclock -w -u || :"


def sync_guest_clock(
    answer: Ping,
    ask: Callable[[], Ping | None],
    driver: Driver,
    guest: Callable[[], Guest],
    reporter: Reporter,
    now: Callable[[], float],
) -> None:
    """Set the guest's clock until the date of Docker's API agrees with the host's; warn where that fails.

    A correct clock costs nothing: `answer` exists anyway, and no connection is needed. The clock is set over SSH only
    where the driver cannot do it: a connection to an emulated guest takes ten seconds.
    """
    first = seconds_behind(answer, now())
    if first is None or abs(first) <= TOLERANCE_S:
        return
    behind = first
    inside = cache(guest)
    ways: list[Callable[[int], None]] = [driver.move_clock, lambda seconds: _move(inside(), seconds)]
    for _ in range(ATTEMPTS):
        try:
            _move_by(ways, round(behind))
        except B2dError as error:
            reporter.warn(f"the guest's clock is {format_seconds(behind)} and could not be set: {error.message}")
            return
        left = seconds_behind(ask(), now())
        if left is None:
            reporter.note(f"the guest's clock was {format_seconds(first)}; it was set")
            return
        if abs(left) <= TOLERANCE_S:
            reporter.note(f"the guest's clock was {format_seconds(first)}; it is correct now")
            return
        behind = left
    reporter.warn(f"the guest's clock is {format_seconds(behind)}, although it was set {ATTEMPTS} times")


def seconds_behind(answer: Ping | None, now: float) -> float | None:
    """Return how far the guest is behind the host, in seconds; None if its answer has no date."""
    if answer is None or answer.date is None:
        return None
    return now - (answer.date + DATE_STEP_S / 2)


def _move_by(ways: list[Callable[[int], None]], seconds: int) -> None:
    """Move the clock by the first way that works, and drop those that fail. Raises the error of the last way."""
    while len(ways) > 1:
        try:
            return ways[0](seconds)
        except B2dError:
            del ways[0]
    return ways[0](seconds)


def _move(guest: Guest, seconds: int) -> None:
    """Move the guest's clock by a difference, which the duration of the connection does not change."""
    command = f"sudo date -u -s @$(($(date +%s) + {seconds})) && {KEEP}"
    result = guest.run(command, COMMAND_TIMEOUT_S)
    if result.exit_code != 0:
        raise B2dError(result.stderr.decode(errors="replace").strip() or f"exit code {result.exit_code}")


def format_seconds(behind: float) -> str:
    """Return a difference of clocks in words."""
    return f"{abs(behind):.0f} s {'behind' if behind > 0 else 'ahead'}"
