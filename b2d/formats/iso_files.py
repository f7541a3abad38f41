"""Read a small file out of an ISO 9660 image that somebody else made."""

import struct
from pathlib import Path

LIMIT = 4 << 20  # bytes
# what reading a damaged ISO raises somewhere within the library
DAMAGE = (struct.error, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)


def read_file(iso: Path, path: str, limit: int = LIMIT) -> bytes | None:
    """Return the file at a Rock Ridge path, None where there is none or it is larger than `limit`. Raises OSError."""
    from pycdlib import PyCdlib
    from pycdlib.pycdlibexception import PyCdlibException

    opened = PyCdlib()
    try:
        opened.open(str(iso))
        try:
            with opened.open_file_from_iso(rr_path=path) as file:
                content = bytes(file.read(limit + 1))
        finally:
            opened.close()
    except (PyCdlibException, *DAMAGE):
        return None
    return content if len(content) <= limit else None
