"""What was written down: all of a file or its end, and what comes; for a terminal without what that would obey."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from b2d.errors import B2dError, WaitTimeoutError
from b2d.guest.base import Guest
from b2d.host.files import open_regular, os_errors_as_b2d_errors
from b2d.host.polling import wait_until
from b2d.reporting.safe_text import many_lines

DOCKER_LOG = "/var/log/docker.log"  # in the guest
LIMIT = 16 << 20  # bytes that are read at once; a guest writes as much as it likes on its console
READ_S = 60.0  # for the end of a log that is in the guest
INTERVAL_S = 0.1
LOOK_S = 3600.0  # one of many: who follows ends it


def tail(content: bytes, lines: int | None) -> bytes:
    """The last lines; None: all of them."""
    if not lines:
        return content if lines is None else b""
    begin = len(content) - content.endswith(b"\n")
    for _ in range(lines):
        begin = content.rfind(b"\n", 0, begin)
        if begin < 0:
            return content
    return content[begin + 1 :]


def read(path: Path, lines: int | None) -> bytes:
    """The end of a file, nothing where there is none. Raises B2dError for one that cannot be read."""
    return tail(_GrowingFile(path).more(), lines)


def docker_log_command(guest: Guest, lines: int | None) -> bytes:
    """The end of Docker's log in a guest, all of it at most. Raises B2dError for one that cannot be read."""
    result = guest.run(f"tail {f'-c {LIMIT}' if lines is None else f'-n {lines}'} {DOCKER_LOG}", READ_S, LIMIT)
    if result.exit_code != 0:
        raise B2dError(f"{DOCKER_LOG} in the guest cannot be read", details=result.stderr.decode(errors="replace"))
    return result.stdout


def strip_timestamps(content: bytes) -> str:
    """Text as a terminal may have it: it moves nothing, colours nothing, and answers nothing."""
    return many_lines(content.decode("utf-8", "replace"))


def follow(path: Path, lines: int | None, show: Callable[[bytes], None], given_up: Callable[[], bool]) -> None:
    """Show the end of a file and what comes, also when the file is begun anew, until nobody wants it any more."""
    file = _GrowingFile(path)
    show(tail(file.more(), lines))
    over = False

    def look() -> bool:
        nonlocal over
        if more := file.more():
            show(more)
        over = given_up()
        return over

    while not over:
        with suppress(WaitTimeoutError):
            wait_until(look, condition=str(path), timeout_s=LOOK_S, interval_s=INTERVAL_S)


class _GrowingFile:
    """A file that others write, and put another in the place of."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._behind = 0  # bytes that were read

    def more(self) -> bytes:
        """What was written since; of a new file all."""
        with os_errors_as_b2d_errors(self._path):
            try:
                file = open_regular(self._path)
            except (FileNotFoundError, NotADirectoryError):
                return b""
            with file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._behind:
                    self._inode, self._behind = found.st_ino, 0
                self._behind = max(self._behind, found.st_size - LIMIT)  # of a longer one, its end
                file.seek(self._behind)
                content = file.read(LIMIT)
        self._behind += len(content)
        return content
