"""Rotation of a machine's logs: a guest may write any amount to its console."""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from b2d.host.files import NotRegularFileError, open_regular, open_to_write, write_atomic

LIMIT = 16 << 20  # bytes of one log; a boot writes some kilobytes
TAIL_SIZE = 1 << 20  # bytes of its end in the file beside it
INTERVAL_S = 60.0


def rotate(path: Path, limit: int = LIMIT, keep: int = TAIL_SIZE) -> bool:
    """Truncate a log larger than `limit` bytes, with its last `keep` bytes in PATH.1; return whether it was.

    The program that writes it has it open for appending, and continues at the new end. Raises OSError, for a link too.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return False
            descriptor = open_to_write(path)
            try:
                if not os.path.sameopenfile(descriptor, file.fileno()):
                    return False
                file.seek(size - keep)
                write_atomic(path.with_name(f"{path.name}.1"), file.read(keep))
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
    except (FileNotFoundError, NotRegularFileError):
        return False
    return True


def rotate_while(runs: Callable[[], bool], logs: Sequence[Path], interval_s: float = INTERVAL_S) -> None:
    """Rotate `logs` until the machine has ended."""
    pause = threading.Event()
    while runs():
        for path in logs:
            with suppress(OSError):  # a full disk, for example: the next attempt may succeed
                rotate(path)
        pause.wait(interval_s)
