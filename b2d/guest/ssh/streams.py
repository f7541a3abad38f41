"""Connect an SSH channel to this process's own streams."""

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from b2d.errors import B2dError, InvalidStateError, WaitTimeoutError
from b2d.machine_names import command_for

if TYPE_CHECKING:
    from paramiko import Channel

CHUNK = 1 << 15  # bytes
NAMES = {1: "stdout", 2: "stderr"}


def collect(channel: "Channel", timeout_s: float, command: str, limit: int, machine: str) -> tuple[bytes, bytes]:
    """Return all output of a command, to which nothing is sent, as stdout and stderr.

    Raises WaitTimeoutError, after closing the channel, and InvalidStateError for more than `limit` bytes, which are
    discarded.
    """
    channel.settimeout(None)
    stderr: list[bytes] = []
    stdout: list[bytes] = []
    overflow = threading.Event()

    def gather(receive: Callable[[int], bytes], chunks: list[bytes]) -> None:
        size = 0
        while chunk := receive(CHUNK):
            size += len(chunk)
            if size > limit:
                overflow.set()
            else:
                chunks.append(chunk)

    reader = threading.Thread(target=gather, args=(channel.recv_stderr, stderr), daemon=True)
    with closing_after(channel, timeout_s) as expired:
        channel.shutdown_write()
        reader.start()
        gather(channel.recv, stdout)
        reader.join()
        channel.status_event.wait()
        if expired.is_set():
            raise WaitTimeoutError(f"{command!r} did not end within {timeout_s:.0f} s in the guest")
    if overflow.is_set():
        raise InvalidStateError(
            f"{command!r} wrote more than {limit} bytes in the guest", hint=command_for("cp :FILE .", machine)
        )
    return b"".join(stdout), b"".join(stderr)


@contextmanager
def translate_errors(machine: str) -> Iterator[None]:
    """Translate the errors of a broken connection to the guest of a machine."""
    from paramiko import SSHException

    try:
        yield
    except TimeoutError as error:
        raise WaitTimeoutError("the guest stopped answering", hint=command_for("logs", machine)) from error
    except (SSHException, EOFError) as error:
        raise _broken_connection(error, machine) from error
    except BrokenPipeError:  # of this process's stdout: the command line ends silently then
        raise
    except OSError as error:
        raise _broken_connection(error, machine) from error


def _broken_connection(error: Exception, machine: str) -> InvalidStateError:
    return InvalidStateError(f"the connection to the guest broke: {error}", hint=command_for("status", machine))


@contextmanager
def closing_after(channel: "Channel", timeout_s: float) -> Iterator[threading.Event]:
    """Close the channel when the block takes longer, which ends any wait for it; the event reports that."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _close(channel)

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def read_output(channel: "Channel") -> Iterator[bytes]:
    """Yield a command's stdout and stderr as they come until it ends; nothing is sent to it."""
    channel.settimeout(None)
    channel.set_combine_stderr(True)
    channel.shutdown_write()
    return iter(lambda: channel.recv(CHUNK), b"")


def is_without_reader(descriptor: int) -> bool:
    """Return whether the descriptor is a pipe without a reader."""
    if not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def connect(channel: "Channel") -> None:
    """Connect a command to this process's stdin, stdout and stderr until all its output is written.

    Returns when the command ends, even if stdin is still open. Raises BrokenPipeError when stdout has no reader, and
    B2dError when output cannot be written; the channel is closed then.
    """
    channel.settimeout(None)
    failures: list[OSError] = []

    def receive(read: Callable[[int], bytes], descriptor: int) -> None:
        try:
            while chunk := read(CHUNK):
                write(descriptor, chunk)
        except OSError as error:
            error.filename = NAMES[descriptor]
            failures.append(error)
            _close(channel)  # otherwise the command waits for ever with the rest of its output

    threading.Thread(target=send, args=(channel,), daemon=True).start()
    errors = threading.Thread(target=receive, args=(channel.recv_stderr, 2), daemon=True)
    errors.start()
    receive(channel.recv, 1)
    errors.join()
    for error in failures:
        if isinstance(error, BrokenPipeError):
            raise error
        raise B2dError(f"{error.filename} cannot be written: {error.strerror}")


def send(channel: "Channel") -> None:
    """Send this process's stdin to the channel until either ends."""
    with suppress(EOFError, OSError):  # the command or the connection has ended
        while chunk := _read(sys.stdin.fileno()):
            channel.sendall(chunk)
        channel.shutdown_write()


def _close(channel: "Channel") -> None:
    with suppress(EOFError, OSError):  # the connection has ended
        channel.close()


def write(descriptor: int, content: bytes) -> None:
    """Write all of the content, even if another process has made the descriptor non-blocking."""
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def _read(descriptor: int) -> bytes:
    """Return the next bytes; none at the end, and where reading fails: a closed terminal, or a folder."""
    while True:
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:
            select.select([descriptor], [], [])
        except OSError:
            return b""
