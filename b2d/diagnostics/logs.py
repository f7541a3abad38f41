"""Log files: read all of one or its last lines, and follow it; safe for a terminal."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from b2d.errors import B2dError, WaitTimeoutError
from b2d.guest.base import Guest
from b2d.host.files import open_regular, os_errors_as_b2d_errors
from b2d.host.polling import wait_until
from b2d.reporting.safe_text import many_lines

# in the guest: b2d's own, and boot2docker's since 18.09 and before it
DOCKER_LOGS = ("/var/log/docker.log", "/var/lib/boot2docker/log/docker.log", "/var/lib/boot2docker/docker.log")
LIMIT = 16 << 20  # bytes that are read at once; a guest may write any amount to its console
READ_S = 60.0  # timeout for reading a log in the guest
INTERVAL_S = 0.1
WATCH_S = 3600.0  # of one of many waits: the caller ends the last


def tail(content: bytes, lines: int | None) -> bytes:
    """Return the last lines of `content`; all with `lines` None."""
    if not lines:
        return content if lines is None else b""
    begin = len(content) - content.endswith(b"\n")
    for _ in range(lines):
        begin = content.rfind(b"\n", 0, begin)
        if begin < 0:
            return content
    return content[begin + 1 :]


def read(path: Path, lines: int | None) -> bytes:
    """Return the last lines of a file, nothing when it does not exist. Raises B2dError when it cannot be read."""
    return tail(_GrowingFile(path).read_new(), lines)


def read_docker_log(guest: Guest, lines: int | None) -> bytes:
    """Return the last lines of Docker's log in a guest, LIMIT bytes at most. Raises B2dError when it cannot be read."""
    result = guest.run(tail_docker_log(f"-c {LIMIT}" if lines is None else f"-n {lines}"), READ_S, LIMIT)
    if result.exit_code != 0:
        details = result.stderr.decode(errors="replace")
        raise B2dError("the Docker engine's log in the guest cannot be read", details=details)
    return result.stdout


def tail_docker_log(options: str) -> str:
    """Return the shell command that becomes a `tail` of Docker's log, where the guest has it."""
    paths = " ".join((*DOCKER_LOGS, DOCKER_LOGS[0]))
    return f"for log in {paths}; do [ ! -r $log ] || break; done; exec tail {options} $log"


def printable_text(content: bytes) -> str:
    """Decode a log for a terminal, without escape sequences that move, colour or query it."""
    return many_lines(content.decode("utf-8", "replace"))


def follow(path: Path, lines: int | None, show: Callable[[bytes], None], is_over: Callable[[], bool]) -> None:
    """Show the last lines of a file and what is appended, across its replacement, until `is_over`."""
    file = _GrowingFile(path)
    show(tail(file.read_new(), lines))
    done = False

    def show_new() -> bool:
        nonlocal done
        if content := file.read_new():
            show(content)
        done = is_over()
        return done

    while not done:
        with suppress(WaitTimeoutError):
            wait_until(show_new, condition=str(path), timeout_s=WATCH_S, interval_s=INTERVAL_S)


class _GrowingFile:
    """A file that other programs append to and replace."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0  # bytes read so far

    def read_new(self) -> bytes:
        """Return the bytes appended since the last call; of a new file all."""
        with os_errors_as_b2d_errors(self._path):
            try:
                file = open_regular(self._path)
            except (FileNotFoundError, NotADirectoryError):
                return b""
            with file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                self._offset = max(self._offset, status.st_size - LIMIT)  # of a longer file, its end
                file.seek(self._offset)
                content = file.read(LIMIT)
        self._offset += len(content)
        return content
