"""Every wait has a condition and a timeout."""

import time

import pytest

from b2d.errors import WaitTimeoutError
from b2d.host.polling import wait_until
from tests.support.timing import not_waiting_for


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_a_true_condition_needs_no_time(timeout_s: float) -> None:
    wait_until(lambda: True, condition="nothing", timeout_s=timeout_s)


def test_the_condition_is_checked_at_least_once() -> None:
    answers = iter([False, False])
    with pytest.raises(WaitTimeoutError):
        wait_until(lambda: next(answers), condition="the end of days", timeout_s=0)
    assert list(answers) == [False]


def test_the_wait_ends_when_the_condition_is_true() -> None:
    with not_waiting_for(10):
        answers = iter([False, False, True])
        wait_until(lambda: next(answers), condition="the third answer", timeout_s=60, interval_s=0.01)


def test_a_timeout_names_the_condition() -> None:
    begin = time.monotonic()
    with pytest.raises(WaitTimeoutError) as caught:
        wait_until(lambda: False, condition="the end of days", timeout_s=0.2, interval_s=0.01, hint="b2d doctor")
    assert 0.2 <= time.monotonic() - begin < 5
    assert "the end of days" in caught.value.message
    assert (caught.value.hint, caught.value.exit_code) == ("b2d doctor", 5)


def test_the_condition_is_checked_once_more_at_the_end() -> None:
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin > 0.05, condition="later", timeout_s=0.1, interval_s=0.2)


def test_an_exception_of_the_condition_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 // 0 == 1, condition="nothing", timeout_s=60)
