"""The interface of reporters, which tell a person on stderr what a command does."""

from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """A progress bar on display."""

    def advance(self, amount: int) -> None:
        """Advance by `amount`, in the units of the total."""


class Reporter(Protocol):
    """Output on stderr for people; programs must not depend on it."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Report a step in progress; at its end the time that it took, or its failure."""

    def progress(self, text: str, total: int) -> AbstractContextManager[Progress]:
        """Report a step of a known size, as bytes or another unit."""

    def note(self, text: str) -> None:
        """Print one line of information."""

    def warn(self, text: str) -> None:
        """Print one line that the user should act on."""
