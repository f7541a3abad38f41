"""Defer Ctrl-C and other termination signals while work must be completed."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class TerminatedError(KeyboardInterrupt):
    """Another termination signal than Ctrl-C's: `number`."""

    def __init__(self, number: int) -> None:
        """Create the error for a signal's number."""
        super().__init__()
        self.number = number


def install_handlers() -> None:
    """Treat termination signals as Ctrl-C, so that work is cleaned up; ignored ones stay ignored."""
    for number in TERMINATING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    raise TerminatedError(number)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Defer termination signals until the end of the block, for short, bounded work only.

    Python delivers signals to the main thread, so other threads have nothing to defer. Ignored signals, as of nohup,
    stay ignored.
    """
    if not _in_main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in TERMINATING}
    handlers = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    for number in handlers:
        signal.signal(number, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in received[:1]:
            signal.raise_signal(number)


def _in_main_thread() -> bool:
    threading = sys.modules.get("threading")  # slow to import, and without it there is no other thread
    return threading is None or threading.current_thread() is threading.main_thread()


@contextmanager
def ignored_in_child() -> Iterator[None]:
    """Ignore Ctrl-C during the block: the program that has the terminal gets it too, and handles it."""
    previous = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
