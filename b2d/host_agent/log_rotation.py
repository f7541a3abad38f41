"""Keep a machine's logs bounded: a guest writes as much as it likes on its console, for as long as it runs."""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from b2d.host.files import NotRegularFileError, open_regular, open_to_write, write_atomic

LIMIT = 16 << 20  # bytes of one log; a boot writes some kilobytes
KEPT = 1 << 20  # bytes of its end that stay in the file beside it
LOOK_S = 60.0


def rotate(path: Path, limit: int = LIMIT, kept: int = KEPT) -> bool:
    """Empty a log that is larger than `limit` bytes, and keep its last `kept` bytes as PATH.1; False for others.

    The program that writes it has it open for appending, and goes on at its new end. Raises OSError, for a link too.
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
                file.seek(size - kept)
                write_atomic(path.with_name(f"{path.name}.1"), file.read(kept))
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
    except (FileNotFoundError, NotRegularFileError):
        return False
    return True


def rotate_while(runs: Callable[[], bool], logs: Sequence[Path], interval_s: float = LOOK_S) -> None:
    """Look after `logs` until the machine has ended."""
    pause = threading.Event()
    while runs():
        for path in logs:
            with suppress(OSError):  # the disk is full, say: the next look may do better
                rotate(path)
        pause.wait(interval_s)
