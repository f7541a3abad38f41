"""Read a small file from a foreign ISO 9660 image."""

import struct
from pathlib import Path

LIMIT = 4 << 20  # bytes
# the library's errors for a damaged ISO
DAMAGE = (struct.error, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)


def read_file(iso: Path, path: str, limit: int = LIMIT) -> bytes | None:
    """Return the file at a Rock Ridge path; None where there is none up to `limit` bytes. Raises OSError."""
    from pycdlib import PyCdlib
    from pycdlib.pycdlibexception import PyCdlibException

    image = PyCdlib()
    try:
        image.open(str(iso))
        try:
            with image.open_file_from_iso(rr_path=path) as file:
                content = bytes(file.read(limit + 1))
        finally:
            image.close()
    except (PyCdlibException, *DAMAGE):
        return None
    return content if len(content) <= limit else None
