"""The one way to wait: for a predicate, with a name and an end."""

import time
from collections.abc import Callable

from b2d.errors import WaitTimeoutError


def wait_until(
    predicate: Callable[[], bool], *, what: str, timeout_s: float, interval_s: float = 0.05, hint: str = ""
) -> None:
    """Return as soon as `predicate()` is true; raise WaitTimeoutError naming `what` when it is not within `timeout_s`.

    The predicate is asked at least once. An error that it raises goes through.
    """
    end = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() >= end:
            raise WaitTimeoutError(f"waited {timeout_s:.0f} s in vain for {what}", hint=hint)
        time.sleep(interval_s)
