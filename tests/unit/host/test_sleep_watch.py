"""Sleep of the host is detected on systems with and without a monotonic clock that stops during sleep."""

import threading
from dataclasses import dataclass, field

import pytest

from b2d.host import sleep_watch


@dataclass
class Host:
    """A host with scripted seconds between two looks: of the wall clock, and of the monotonic clock."""

    passes: list[tuple[float, float]]
    day: float = 1_800_000_000.0
    steady: float = 100.0
    woken: list[float] = field(default_factory=list)
    deaf: int = 0  # the number of notifications that the guest misses

    def clocks(self) -> tuple[float, float]:
        return self.day, self.steady

    def runs(self) -> bool:
        return bool(self.passes)

    def wait(self, seconds: float) -> None:
        day, steady = self.passes.pop(0)
        self.day += day
        self.steady += steady

    def wake(self, failures: int) -> bool:
        assert failures == (len(self.woken) if self.deaf else 0)
        self.woken.append(self.day)
        return len(self.woken) > self.deaf


def count_notifications(monkeypatch: pytest.MonkeyPatch, passes: list[tuple[float, float]], deaf: int = 0) -> int:
    """Return the number of notifications of the guest during these steps."""
    host = Host(passes, deaf=deaf)
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds: host.wait(seconds))
    sleep_watch.after_sleep(host.wake, host.runs, host.clocks)
    return len(host.woken)


AWAKE = (1.0, 1.0)


@pytest.mark.parametrize(
    ("step", "count"),
    [
        (AWAKE, 0),
        ((1.9, 1.9), 0),  # a busy host
        ((3600.0, 1.0), 1),  # Linux and macOS: the monotonic clock stopped
        ((3600.0, 3600.0), 1),  # the monotonic clock runs during sleep, or everything was stopped
        ((-3600.0, 1.0), 1),  # the host's clock was set
    ],
)
def test_a_guest_is_notified_once_per_sleep(
    monkeypatch: pytest.MonkeyPatch, step: tuple[float, float], count: int
) -> None:
    assert count_notifications(monkeypatch, [AWAKE, step, AWAKE, AWAKE]) == count
    assert count_notifications(monkeypatch, [step, AWAKE, step]) == 2 * count


def test_the_notification_of_a_guest_is_retried_a_limited_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = (3600.0, 1.0)
    assert count_notifications(monkeypatch, [slept, *[AWAKE] * 10], deaf=3) == 4
    assert count_notifications(monkeypatch, [slept, *[AWAKE] * 100], deaf=1000) == sleep_watch.TRIES
