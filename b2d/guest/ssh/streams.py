"""A channel of SSH joined to this process's own streams, byte by byte."""

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from b2d.errors import B2dError, InvalidStateError, WaitTimeoutError

if TYPE_CHECKING:
    from paramiko import Channel

CHUNK = 1 << 15  # bytes
NAMES = {1: "stdout", 2: "stderr"}


def collect(channel: "Channel", timeout_s: float, what: str, limit: int) -> tuple[bytes, bytes]:
    """All that a command writes until it ends; nothing is sent to it.

    Raises WaitTimeoutError, and closes the channel then, and InvalidStateError for more than `limit` bytes, which are
    not kept.
    """
    channel.settimeout(None)
    stderr: list[bytes] = []
    stdout: list[bytes] = []
    endless = threading.Event()

    def gather(receive: Callable[[int], bytes], into: list[bytes]) -> None:
        size = 0
        while piece := receive(CHUNK):
            size += len(piece)
            if size > limit:
                endless.set()
            else:
                into.append(piece)

    reader = threading.Thread(target=gather, args=(channel.recv_stderr, stderr), daemon=True)
    with closing_after(channel, timeout_s) as late:
        channel.shutdown_write()
        reader.start()
        gather(channel.recv, stdout)
        reader.join()
        channel.status_event.wait()
        if late.is_set():
            raise WaitTimeoutError(f"{what!r} did not end within {timeout_s:.0f} s in the guest")
    if endless.is_set():
        raise InvalidStateError(f"{what!r} wrote more than {limit} bytes in the guest", hint="b2d cp")
    return b"".join(stdout), b"".join(stderr)


@contextmanager
def translate_errors() -> Iterator[None]:
    """A connection that breaks, told as such."""
    from paramiko import SSHException

    try:
        yield
    except TimeoutError as error:
        raise WaitTimeoutError("the guest stopped answering", hint="b2d logs") from error
    except (SSHException, EOFError) as error:
        raise InvalidStateError(f"the connection to the guest broke: {error}", hint="b2d status") from error
    except BrokenPipeError:  # of our own stdout: the command line ends quietly then
        raise
    except OSError as error:
        raise InvalidStateError(f"the connection to the guest broke: {error}", hint="b2d status") from error


@contextmanager
def closing_after(channel: "Channel", timeout_s: float) -> Iterator[threading.Event]:
    """Close the channel when the block takes longer, which wakes whoever waits for it; the event tells so."""
    late = threading.Event()

    def strike() -> None:
        late.set()
        _close(channel)

    alarm = threading.Timer(timeout_s, strike)
    alarm.daemon = True
    alarm.start()
    try:
        yield late
    finally:
        alarm.cancel()


def pieces(channel: "Channel") -> Iterator[bytes]:
    """What a command writes, as it comes, until it ends; its stderr too, and nothing is sent to it."""
    channel.settimeout(None)
    channel.set_combine_stderr(True)
    channel.shutdown_write()
    return iter(lambda: channel.recv(CHUNK), b"")


def has_unread(descriptor: int) -> bool:
    """True when it is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):  # Windows
        return False
    asked = select.poll()
    asked.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in asked.poll(0))


def connect(channel: "Channel") -> None:
    """Give a command this process's stdin, and its output to stdout and stderr, until it has written all.

    Ends with the command, also while stdin is still open. Raises BrokenPipeError when nobody reads any more, and
    B2dError when what it says cannot be written; the channel is closed then.
    """
    channel.settimeout(None)
    refused: list[OSError] = []

    def receive(read: Callable[[int], bytes], descriptor: int) -> None:
        try:
            while chunk := read(CHUNK):
                write(descriptor, chunk)
        except OSError as error:
            error.filename = NAMES[descriptor]
            refused.append(error)
            _close(channel)  # else the command waits for ever for somebody to read the rest

    threading.Thread(target=send, args=(channel,), daemon=True).start()
    errors = threading.Thread(target=receive, args=(channel.recv_stderr, 2), daemon=True)
    errors.start()
    receive(channel.recv, 1)
    errors.join()
    for error in refused:
        if isinstance(error, BrokenPipeError):
            raise error
        raise B2dError(f"{error.filename} cannot be written: {error.strerror}")


def send(channel: "Channel") -> None:
    """Give the other side this process's stdin until either ends."""
    with suppress(EOFError, OSError):  # the command or the connection has ended
        while chunk := _read(sys.stdin.fileno()):
            channel.sendall(chunk)
        channel.shutdown_write()


def _close(channel: "Channel") -> None:
    with suppress(EOFError, OSError):  # the connection has ended
        channel.close()


def write(descriptor: int, content: bytes) -> None:
    """Write all of it, also where somebody who shares the descriptor has made it one that never waits."""
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def _read(descriptor: int) -> bytes:
    """What comes next; nothing at the end, and where nothing can be read: the terminal has gone, it is a folder."""
    while True:
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:
            select.select([descriptor], [], [])
        except OSError:
            return b""
