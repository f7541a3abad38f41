"""Ctrl-C, and its kin from elsewhere, are held back while something must be done whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class TerminatedError(KeyboardInterrupt):
    """Somebody asked this process to end by another signal than Ctrl-C's: `number`."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def install_handlers() -> None:
    """Take such a signal as a Ctrl-C, so that what is under way is left tidy; one that is ignored stays so."""
    for number in TERMINATING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    raise TerminatedError(number)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let a signal that asks for the end and comes during the block strike when the block has ended.

    For short, bounded work only. Python gives signals to the main thread: in others there is nothing to hold.
    One that is ignored, as nohup has it, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    heeded = {number: signal.getsignal(number) for number in TERMINATING}
    heeded = {number: handler for number, handler in heeded.items() if handler not in (signal.SIG_IGN, None)}
    for number in heeded:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


@contextmanager
def ignored_in_child() -> Iterator[None]:
    """Take no notice of Ctrl-C during the block: the program that has the terminal gets it too, and uses it."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
