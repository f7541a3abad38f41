"""The interface of what tells a person on stderr what a command does."""

from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """A bar under way."""

    def advance(self, amount: int) -> None:
        """Count `amount` more, in the units of the total."""


class Reporter(Protocol):
    """The voice on stderr. What is said here is for eyes, never for programs."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Something that takes a while; leaving it says how long it took, or that it failed."""

    def progress(self, text: str, total: int) -> AbstractContextManager[Progress]:
        """Something with a known size."""

    def note(self, text: str) -> None:
        """One line worth knowing."""

    def warn(self, text: str) -> None:
        """One line worth acting on."""
