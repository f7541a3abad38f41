"""The reporter for Python programs: the logger named b2d, which is silent by default."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from b2d.reporting.safe_text import one_line

if TYPE_CHECKING:
    import logging

    from b2d.reporting.base import Progress


class LogReporter:
    """A reporter that logs steps and notes at level INFO, and warnings at WARNING."""

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Log the time that the step took, or its failure."""
        text, begin = one_line(text), time.monotonic()
        try:
            yield
        except BaseException:
            _log().info("%s  failed after %.1f s", text, time.monotonic() - begin)
            raise
        _log().info("%s  %.1f s", text, time.monotonic() - begin)

    @contextmanager
    def progress(self, text: str, total: int) -> "Iterator[Progress]":  # noqa: ARG002  the protocol's signature
        """Log the step as one without a size."""
        with self.step(text):
            yield _NoProgress()

    def note(self, text: str) -> None:
        """Log a line at level INFO."""
        _log().info("%s", one_line(text))

    def warn(self, text: str) -> None:
        """Log a line at level WARNING."""
        _log().warning("%s", one_line(text))


class _NoProgress:
    """A progress bar without a display."""

    def advance(self, amount: int) -> None:
        """Do nothing."""


def _log() -> "logging.Logger":
    import logging

    logger = logging.getLogger("b2d")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # otherwise Python prints warnings where no logging is configured
    return logger
