"""Commands to a guest over its second serial port, without SSH."""

import os
import socket
import time
from pathlib import Path

from b2d.errors import B2dError
from b2d.host import unix_sockets

ANSWER_S = 5.0  # for the guest to carry out a command
ANSWER_LIMIT = 1 << 20  # bytes
CLOCK_SET = "moved"


def is_possible(path: Path) -> bool:
    """Tell whether this host can use a control port; else commands go over SSH.

    Python on Windows has no Unix sockets, and a path that is too long cannot be one.
    """
    return hasattr(socket, "AF_UNIX") and unix_sockets.fits(path)


def move_clock(path: Path, seconds: int) -> None:
    """Move the guest's clock and its clock chip. Raises B2dError unless the guest confirms it."""
    ask(path, f"move {seconds}", CLOCK_SET, ANSWER_S)


def ask(path: Path, command: str, done: str, timeout_s: float) -> list[str]:
    """Return the lines that the guest writes before the line `done`. Raises B2dError when that line does not come."""
    deadline = time.monotonic() + timeout_s
    last = f"{done}\n".encode()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            unix_sockets.connect(connection, path)
            connection.sendall(f"\n{command}\n".encode())
            answer = b""
            while last not in answer:  # another image may have a program that writes a lot on that port
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError("timed out")  # whatever arrives: it may arrive byte by byte
                connection.settimeout(left)
                if not (chunk := connection.recv(4096)):
                    raise ConnectionError("the connection was closed")
                answer += chunk
                if len(answer) > ANSWER_LIMIT:
                    raise ConnectionError("the answer is too long")
    except (OSError, AttributeError) as error:
        raise B2dError(f"the guest does not answer on its control port: {error}") from error
    return [os.fsdecode(line) for line in answer.partition(last)[0].split(b"\n")[:-1]]
