"""A line of its own to a guest, its second serial port: there the host can tell it the time, without SSH."""

import socket
import time
from pathlib import Path

from b2d.errors import B2dError

CAN_BE = hasattr(socket, "AF_UNIX")  # Python on Windows has none, and the guest is told over SSH
ANSWER_S = 5.0  # for the guest to do it
DONE = b"moved\n"


def move_clock(path: Path, seconds: int) -> None:
    """Let the guest move its clock, and its clock chip. Raises B2dError when it does not say that it did."""
    deadline = time.monotonic() + ANSWER_S
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(ANSWER_S)
            line.connect(str(path))
            line.sendall(f"\nmove {seconds}\n".encode())
            answer = b""
            while DONE not in answer:  # another image may have a chatty program on that line
                line.settimeout(max(deadline - time.monotonic(), 0.001))
                if not (chunk := line.recv(64)):
                    raise ConnectionError("it was cut")
                answer += chunk
    except (OSError, AttributeError) as error:
        raise B2dError(f"the guest does not answer on its line: {error}") from error
