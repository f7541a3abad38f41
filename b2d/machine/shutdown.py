"""Shut a machine down by its power button, and cut the power of a guest that does not react."""

from contextlib import suppress
from time import monotonic

from b2d.drivers.base import Driver
from b2d.errors import B2dError, WaitTimeoutError
from b2d.host.polling import wait_until
from b2d.models import OFF_STATES, MachineState
from b2d.reporting.base import Reporter

PRESS_AGAIN_S = 2.0


def request_shutdown(driver: Driver) -> None:
    """Press the power button. A guest that found no root file system has mounted nothing, so its power is cut.

    Its console begins with the kernel's stage: one that was truncated since says nothing about the root file system.
    """
    from b2d.guest.readiness import find_problems, parse_stages

    console = driver.console()
    stages = [stage.name for stage in parse_stages(console)]
    if stages == ["kernel"] and any(problem.fatal for problem in find_problems(console)):
        driver.kill()
    else:
        driver.stop()


def wait_until_off(driver: Driver, name: str, patience_s: float, reporter: Reporter) -> None:
    """Wait until the machine is off; cut the power after `patience_s` seconds.

    The button is pressed every PRESS_AGAIN_S: a guest that boots misses presses until its kernel has a driver for it.
    """
    pressed_at = monotonic()

    def is_off() -> bool:
        nonlocal pressed_at
        state = driver.state()
        if state == MachineState.RUNNING and monotonic() - pressed_at >= PRESS_AGAIN_S:
            with suppress(B2dError):  # it may have ended since
                driver.stop()
            pressed_at = monotonic()
        return state in OFF_STATES

    try:
        wait_until(is_off, condition=f"{name} to power off", timeout_s=patience_s)
    except WaitTimeoutError:
        reporter.warn(f"{name} did not power off within {patience_s:.0f} s: its power was cut")
    driver.kill()  # also forgets a process that has ended
