"""A Ctrl-C within a critical section takes effect after it."""

import signal
import subprocess
import sys
import threading

import pytest

from b2d.host.signals import signals_deferred


def strike() -> None:
    signal.raise_signal(signal.SIGINT)


def test_a_signal_takes_effect_after_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with signals_deferred():
            strike()
            done.append("the rest of the block")
        done.append("what comes after it")
    assert done == ["the rest of the block"]


def test_repeated_signals_take_effect_once() -> None:
    struck = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: struck.append(number))
    try:
        with signals_deferred():
            strike()
            strike()
            assert struck == []
        assert struck == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handler_is_restored_after_a_block_without_a_signal() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals_deferred():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        strike()


def test_a_nested_block_defers_a_signal_to_the_end_of_the_outer_one() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with signals_deferred():
            with signals_deferred():
                strike()
                done.append("inner")
            done.append("outer")
        done.append("after")
    assert done == ["inner", "outer"]


def test_a_signal_takes_effect_although_the_block_failed() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught, signals_deferred():
        strike()
        raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_exception_of_a_block_without_a_signal_is_raised() -> None:
    with pytest.raises(ZeroDivisionError), signals_deferred():
        raise ZeroDivisionError


def test_a_block_in_another_thread_is_just_run() -> None:
    done = []

    def work() -> None:
        with signals_deferred():
            done.append("in a thread")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["in a thread"]


SCRIPT = """
import time
from b2d.host.signals import signals_deferred
try:
    with signals_deferred():
        print("in", flush=True)
        input()
        print("done", flush=True)
    print("after", flush=True)
except KeyboardInterrupt:
    print("struck", flush=True)
"""


def test_a_signal_from_another_process_is_deferred_too() -> None:
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate("go on\n", timeout=20)
    assert stdout == "done\nstruck\n"
