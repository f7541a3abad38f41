"""Bounded reads and the common error of the parsers of virtual disks."""

from typing import BinaryIO

SECTOR = 512  # bytes
SIZE_LIMIT = 64 << 40  # bytes of a disk; VirtualBox's own dialogs create at most 2 TiB
CONVERT = "qemu-img convert -O qcow2 FILE WHOLE.qcow2 && b2d import WHOLE.qcow2, if you trust FILE"
BY_NAME = "b2d import NAME, the machine's name, where VirtualBox is installed"


class DiskImageError(ValueError):
    """A disk image that is damaged or refers to other files; `message` follows its name, `hint` may be ""."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Create the error."""
        super().__init__(message)
        self.message = message
        self.hint = hint


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read exactly `size` bytes. Raises DiskImageError where the file ends before them, and OSError."""
    content = b""
    if 0 <= offset <= SIZE_LIMIT and size >= 0:
        file.seek(offset)
        content = file.read(size)
    if not content or len(content) != size:
        raise DiskImageError("is truncated or damaged")
    return content


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file, in bytes."""
    return file.seek(0, 2)


def check_size(size: int) -> None:
    """Raise DiskImageError for an invalid disk size in bytes."""
    if not 0 < size <= SIZE_LIMIT:
        raise DiskImageError(f"has the invalid size of {size} bytes")
