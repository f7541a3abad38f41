"""Time limits that hold on a busy host too: of CPU time, and relative to a wait that must not happen."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Assert that the block takes less CPU time of this process, in seconds."""
    begin = time.process_time()
    yield
    assert time.process_time() - begin < seconds


@contextmanager
def not_waiting_for(seconds: float) -> Iterator[None]:
    """Assert that the block takes less than half of the time that it would take if it waited, in seconds."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds / 2
