"""Notices that this host slept: a guest whose clock slept with it is to be told the time."""

import threading
from collections.abc import Callable

LOOK_S = 1.0
TRIES = 30  # of telling it, after a sleep
LATE_S = 1.0  # a busy host is a little late at times; a guest that is behind by less is right enough


def after_sleep(wake: Callable[[], bool], runs: Callable[[], bool], clocks: Callable[[], tuple[float, float]]) -> None:
    """Call `wake` when this host has slept, or its clock was set, each time until the machine ends.

    A guest that does not listen yet is told again at the next looks: `wake` is false then.
    `clocks` tells the time of day and that of a clock that is never set, in seconds. Whether the second one goes on
    while the host sleeps is another matter on every system; where it does, the pause took too long.
    """
    pause = threading.Event()
    day, steady = clocks()
    due = 0
    while runs():
        pause.wait(LOOK_S)
        day_now, steady_now = clocks()
        passed = steady_now - steady
        if passed > LOOK_S + LATE_S or abs(day_now - day - passed) > LATE_S:
            due = TRIES
        if due:
            due = 0 if wake() else due - 1
            day_now, steady_now = clocks()
        day, steady = day_now, steady_now
