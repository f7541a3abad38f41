"""The interface of a disk that is imported from another tool."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class DiskToCopy(Protocol):
    """A foreign disk, which is not changed. Raises B2dError where it cannot be read."""

    @property
    def size(self) -> int:
        """The size of the disk in bytes, as a guest sees it."""

    def room(self) -> int:
        """Return the approximate size of a copy in bytes."""

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes that a guest would read; fewer at the disk's end."""

    def copy(self, target: Path, advance: Callable[[int], None]) -> None:
        """Write a copy in the driver's own format to a new file; `advance` gets the progress in bytes of `size`."""
