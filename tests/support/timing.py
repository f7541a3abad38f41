"""Time limits that hold on a busy host too: of CPU time, relative to a wait, or to the share of a CPU that is left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SAMPLE_S = 0.05


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


@contextmanager
def wall_limit(seconds: float) -> Iterator[None]:
    """Assert that the block takes less time than that on a quiet host, and on a busy one as many times more."""
    slowness = _measure_slowness()
    begin = time.monotonic()
    yield
    took_s = time.monotonic() - begin
    assert took_s < seconds * max(slowness, _measure_slowness())


def _measure_slowness() -> float:
    """Return the time that a computation takes, in multiples of its CPU time: 1 on a quiet host."""
    begin, begin_cpu = time.monotonic(), time.thread_time()
    while (cpu_s := time.thread_time() - begin_cpu) < SAMPLE_S:
        pass
    return (time.monotonic() - begin) / cpu_s
