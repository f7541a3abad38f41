"""Wait for a condition, with a name for messages and a timeout."""

import time
from collections.abc import Callable

from b2d.errors import WaitTimeoutError


def wait_until(
    predicate: Callable[[], bool], *, condition: str, timeout_s: float, interval_s: float = 0.05, hint: str = ""
) -> None:
    """Return as soon as `predicate()` is true. Raises WaitTimeoutError naming `condition` after `timeout_s` seconds.

    The predicate is called at least once; its errors are passed on.
    """
    end = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() >= end:
            raise WaitTimeoutError(f"timed out after {timeout_s:.0f} s waiting for {condition}", hint=hint)
        time.sleep(interval_s)
