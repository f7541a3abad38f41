"""The voice for those who use b2d from Python: in the log of the name b2d, which nobody hears unasked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from b2d.reporting.safe_text import one_line

if TYPE_CHECKING:
    import logging

    from b2d.reporting.base import Progress


class LogReporter:
    """Steps and notes are of the level INFO, warnings of WARNING."""

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        text, begin = one_line(text), time.monotonic()
        try:
            yield
        except BaseException:
            _log().info("%s  failed after %.1f s", text, time.monotonic() - begin)
            raise
        _log().info("%s  %.1f s", text, time.monotonic() - begin)

    @contextmanager
    def progress(self, text: str, total: int) -> "Iterator[Progress]":  # noqa: ARG002  the door's signature
        with self.step(text):
            yield _NoProgress()

    def note(self, text: str) -> None:
        _log().info("%s", one_line(text))

    def warn(self, text: str) -> None:
        _log().warning("%s", one_line(text))


class _NoProgress:
    """A bar that nobody sees."""

    def advance(self, amount: int) -> None:
        """Nothing."""


def _log() -> "logging.Logger":
    import logging

    found = logging.getLogger("b2d")
    if not found.handlers:
        found.addHandler(logging.NullHandler())  # else Python would print warnings where nobody set up a log
    return found
