"""Connect this terminal to a program on a terminal in the guest."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from b2d.guest.ssh import streams

if TYPE_CHECKING:
    from paramiko import Channel

DEFAULT_SIZE = os.terminal_size((80, 24))


def is_terminal() -> bool:
    """Return whether stdin is a terminal; as for ssh, stdout may be anything."""
    return sys.stdin.isatty()


def set_window(channel: "Channel") -> None:
    """Request a terminal of this one's type and size in the guest."""
    size = _size()
    channel.get_pty(os.environ.get("TERM", "vt100"), size.columns, size.lines)


def run_interactive(channel: "Channel") -> None:
    """Connect the terminals until the program ends; output is passed unchanged.

    Every key is sent, Ctrl-C too, and changes of size; this terminal's mode is restored in any case.
    """
    if sys.platform == "win32":
        streams.connect(channel)  # a plain connection: raw mode could not be tested on Windows
        return
    channel.settimeout(None)
    channel.set_combine_stderr(True)
    with _raw_mode(sys.stdin.fileno()), _size_changes() as resized:
        threading.Thread(target=streams.send, args=(channel,), daemon=True).start()
        _show(channel, resized)


def _show(channel: "Channel", resized: int) -> None:
    screen = sys.stdout.fileno()
    _send_size(channel)  # it may have changed since set_window()
    while True:
        ready, _, _ = select.select([channel.fileno(), resized], [], [])
        if resized in ready:
            os.read(resized, streams.CHUNK)
            _send_size(channel)
        if channel.fileno() in ready:
            chunk = channel.recv(streams.CHUNK)
            if not chunk:
                return
            streams.write(screen, chunk)


def _send_size(channel: "Channel") -> None:
    from paramiko import SSHException

    size = _size()
    with suppress(SSHException):  # the program has ended, with output still to be read
        channel.resize_pty(size.columns, size.lines)


def _size() -> os.terminal_size:
    try:
        size = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return DEFAULT_SIZE
    return size if size.columns and size.lines else DEFAULT_SIZE  # a serial line reports no size


@contextmanager
def _raw_mode(descriptor: int) -> Iterator[None]:
    """Set raw mode: every key as it comes, without echo."""
    import termios
    import tty

    previous = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        with suppress(termios.error):  # the terminal is closed
            termios.tcsetattr(descriptor, termios.TCSADRAIN, previous)


@contextmanager
def _size_changes() -> Iterator[int]:
    """Yield a descriptor that becomes readable when the size changes: a signal handler can do no more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def notify(*_: object) -> None:
        with suppress(BlockingIOError):  # a notification is pending already
            os.write(writer, b"!")

    previous = signal.signal(signal.SIGWINCH, notify)
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, previous)
        os.close(writer)
        os.close(reader)
