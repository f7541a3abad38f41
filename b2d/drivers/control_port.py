"""A line of its own to a guest, its second serial port: there the host can tell it something, without SSH."""

import os
import socket
import time
from pathlib import Path

from b2d.errors import B2dError
from b2d.host import unix_sockets

ANSWER_S = 5.0  # for the guest to do it
ANSWER_LIMIT = 1 << 20  # bytes
CLOCK_SET = "moved"


def is_possible(path: Path) -> bool:
    """False where the guest is told over SSH: Python on Windows has no such sockets, and a long path is none."""
    return hasattr(socket, "AF_UNIX") and unix_sockets.fits(path)


def move_clock(path: Path, seconds: int) -> None:
    """Let the guest move its clock, and its clock chip. Raises B2dError when it does not say that it did."""
    ask(path, f"move {seconds}", CLOCK_SET, ANSWER_S)


def ask(path: Path, command: str, done: str, timeout_s: float) -> list[str]:
    """The lines that the guest writes before the one that says `done`. Raises B2dError when that does not come."""
    deadline = time.monotonic() + timeout_s
    last = f"{done}\n".encode()
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(timeout_s)
            unix_sockets.connect(line, path)
            line.sendall(f"\n{command}\n".encode())
            answer = b""
            while last not in answer:  # another image may have a chatty program on that line
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError("timed out")  # whatever comes: it would come byte by byte
                line.settimeout(left)
                if not (chunk := line.recv(4096)):
                    raise ConnectionError("it was cut")
                answer += chunk
                if len(answer) > ANSWER_LIMIT:
                    raise ConnectionError("it says too much")
    except (OSError, AttributeError) as error:
        raise B2dError(f"the guest does not answer on its line: {error}") from error
    return [os.fsdecode(said) for said in answer.partition(last)[0].split(b"\n")[:-1]]
