"""Detect that this host slept, after which a guest whose clock slept too needs the time."""

import threading
from collections.abc import Callable

LOOK_S = 1.0
TRIES = 30  # calls of `wake` after a sleep
LATE_S = 1.0  # tolerance for a busy host; a smaller error of the guest's clock is harmless


def after_sleep(
    wake: Callable[[int], bool], runs: Callable[[], bool], clocks: Callable[[], tuple[float, float]]
) -> None:
    """Call `wake` after each sleep of this host, or change of its clock, until the machine ends.

    While `wake` returns False, since the guest does not answer yet, it is called again each second; its argument is the
    number of failed calls since the sleep. `clocks` returns the time of day and that of a clock that is never set, in
    seconds. Systems differ in whether the latter runs during sleep; where it does, the pause took too long.
    """
    pause = threading.Event()
    day, steady = clocks()
    tries_left = 0
    while runs():
        pause.wait(LOOK_S)
        day_now, steady_now = clocks()
        passed = steady_now - steady
        if passed > LOOK_S + LATE_S or abs(day_now - day - passed) > LATE_S:
            tries_left = TRIES
        if tries_left:
            tries_left = 0 if wake(TRIES - tries_left) else tries_left - 1
            day_now, steady_now = clocks()
        day, steady = day_now, steady_now
