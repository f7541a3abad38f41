"""A channel of SSH joined to this process's own streams, byte by byte."""

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from b2d.errors import OutOfTime

if TYPE_CHECKING:
    from paramiko import Channel

CHUNK = 1 << 15  # bytes
NO_EXIT_CODE = 255  # as ssh: the connection ended before the command did


def collect(channel: "Channel", timeout_s: float, what: str) -> tuple[bytes, bytes]:
    """All that a command writes until it ends; nothing is sent to it. Raises OutOfTime, and closes the channel."""
    channel.shutdown_write()
    stderr: list[bytes] = []
    reader = threading.Thread(target=lambda: stderr.extend(iter(lambda: channel.recv_stderr(CHUNK), b"")), daemon=True)
    reader.start()
    end = time.monotonic() + timeout_s
    stdout = []
    try:
        while True:
            channel.settimeout(max(0.01, end - time.monotonic()))
            chunk = channel.recv(CHUNK)
            if not chunk:
                break
            stdout.append(chunk)
        channel.status_event.wait(max(0.01, end - time.monotonic()))
        if not channel.exit_status_ready():
            raise TimeoutError
    except TimeoutError:
        channel.close()
        raise OutOfTime(f"{what!r} did not end within {timeout_s:.0f} s in the guest") from None
    reader.join(max(0.01, end - time.monotonic()))
    return b"".join(stdout), b"".join(stderr)


def connect(channel: "Channel") -> int:
    """Give a command this process's stdin, and its output to stdout and stderr; its exit code.

    Ends with the command, also while stdin is still open. When nobody reads stdout any more, the channel is closed.
    """
    threading.Thread(target=_send, args=(channel,), daemon=True).start()
    errors = threading.Thread(target=_receive, args=(channel.recv_stderr, 2), daemon=True)
    errors.start()
    try:
        if not _receive(channel.recv, 1):
            channel.close()
            raise BrokenPipeError
        errors.join()
        code = channel.recv_exit_status()
    finally:
        channel.close()
    return NO_EXIT_CODE if code < 0 else code


def _send(channel: "Channel") -> None:
    try:
        while chunk := os.read(sys.stdin.fileno(), CHUNK):
            channel.sendall(chunk)
        channel.shutdown_write()
    except (OSError, ValueError):  # the command has ended, or there is no stdin
        return


def _receive(receive: "object", descriptor: int) -> bool:
    """Copy until the end; False when the other side of the descriptor went away."""
    assert callable(receive)
    try:
        while chunk := receive(CHUNK):
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        return False
    return True
