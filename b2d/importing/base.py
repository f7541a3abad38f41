"""The interface of a disk that is imported from another tool."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class DiskToCopy(Protocol):
    """A disk that is somebody else's, and stays as it is. Raises B2dError for what cannot be read."""

    @property
    def size(self) -> int:
        """How many bytes a guest sees."""

    def room(self) -> int:
        """How many bytes a copy takes, about."""

    def read(self, offset: int, size: int) -> bytes:
        """What a guest would read there; less where the disk ends."""

    def copy(self, target: Path, advance: Callable[[int], None]) -> None:
        """Write a disk of one's own kind to a file that is not there; what is done of `size` is told."""
