"""This terminal as the screen and keyboard of a shell elsewhere."""

import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paramiko import Channel

CHUNK = 1 << 15  # bytes
NO_EXIT_CODE = 255


def is_interactive() -> bool:
    """True when a person sits at both ends of this process."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def interact(channel: "Channel") -> int:
    """Run a login shell on a terminal of this one's size and kind until it ends; its exit code.

    Every key goes there, Ctrl-C too; a change of size follows; this terminal is put back whatever happens.
    """
    columns, rows = shutil.get_terminal_size()
    channel.get_pty(os.environ.get("TERM", "vt100"), columns, rows)
    channel.invoke_shell()
    if sys.platform == "win32":
        from b2d import streams

        return streams.connect(channel)  # a plain connection: no test of this could be run where b2d was written
    channel.settimeout(None)
    with _raw(sys.stdin.fileno()), _following_size(channel):
        _copy(channel)
    code = channel.recv_exit_status()
    return NO_EXIT_CODE if code < 0 else code


def _copy(channel: "Channel") -> None:
    """Copy both ways until the shell ends."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    watched: list[Any] = [channel, keyboard]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if channel in ready:
            chunk = channel.recv(CHUNK)
            if not chunk:
                return
            _write(screen, chunk)
        if keyboard in ready:
            keys = os.read(keyboard, CHUNK)
            if keys:
                channel.sendall(keys)
            else:
                watched.remove(keyboard)
                channel.shutdown_write()


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Every key as it comes, and nothing echoed."""
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _following_size(channel: "Channel") -> Iterator[None]:
    def resize(*_: object) -> None:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        channel.resize_pty(columns, rows)

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
