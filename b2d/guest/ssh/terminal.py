"""This terminal as the screen and keyboard of a program elsewhere."""

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

USUAL = os.terminal_size((80, 24))


def is_terminal() -> bool:
    """True when somebody sits at the keyboard of this process; as for ssh, stdout may be anything."""
    return sys.stdin.isatty()


def set_window(channel: "Channel") -> None:
    """Ask for a terminal of this one's kind and size at the other end."""
    size = _size()
    channel.get_pty(os.environ.get("TERM", "vt100"), size.columns, size.lines)


def run_interactive(channel: "Channel") -> None:
    """Join them until the program has ended; what is written comes out unchanged.

    Every key goes there, Ctrl-C too; a change of size follows; this terminal is put back whatever happens.
    """
    if sys.platform == "win32":
        streams.connect(channel)  # a plain connection: no test of this could be run where b2d was written
        return
    channel.settimeout(None)
    channel.set_combine_stderr(True)
    with _raw(sys.stdin.fileno()), _resized() as resized:
        threading.Thread(target=streams.send, args=(channel,), daemon=True).start()
        _show(channel, resized)


def _show(channel: "Channel", resized: int) -> None:
    screen = sys.stdout.fileno()
    _tell_size(channel)  # it may have changed since give()
    while True:
        ready, _, _ = select.select([channel.fileno(), resized], [], [])
        if resized in ready:
            os.read(resized, streams.CHUNK)
            _tell_size(channel)
        if channel.fileno() in ready:
            chunk = channel.recv(streams.CHUNK)
            if not chunk:
                return
            streams.write(screen, chunk)


def _tell_size(channel: "Channel") -> None:
    from paramiko import SSHException

    size = _size()
    with suppress(SSHException):  # what ran there has ended, and what it wrote is still to be read
        channel.resize_pty(size.columns, size.lines)


def _size() -> os.terminal_size:
    try:
        found = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return USUAL
    return found if found.columns and found.lines else USUAL  # a serial line does not know its size


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
        with suppress(termios.error):  # it has gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _resized() -> Iterator[int]:
    """A descriptor that can be read when the size has changed: a signal's handler can do no more than say so."""
    out, into = os.pipe()
    os.set_blocking(into, False)

    def tell(*_: object) -> None:
        with suppress(BlockingIOError):  # it has been told often enough
            os.write(into, b"!")

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield out
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(into)
        os.close(out)
