"""The interface of a running guest: commands in it, and streams to and from them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import socket

from b2d.models import CommandResult

Dial = Callable[[int, float], "socket.socket"]  # a port of the guest, and seconds


ANSWER_LIMIT = 1 << 20  # bytes of a command's output in a guest: answers to b2d's own questions have some lines


class Guest(Protocol):
    """The Linux inside, over its own control channel. Raises InvalidStateError when it cannot be reached."""

    def run(self, command: str, timeout_s: float, limit: int = ANSWER_LIMIT) -> CommandResult:
        """Run a shell command line as the user docker.

        Raises WaitTimeoutError, and InvalidStateError for more than `limit` bytes.
        """

    def shell(self, command: str | None) -> int:
        """Join this process's streams to `command`; its exit code, 255 when it has none.

        Without one to a shell, which has a terminal when somebody sits at this process's.
        """

    def follow(self, command: str, heard: Callable[[bytes], None]) -> int:
        """Give what `command` writes, as it comes, until it ends; its exit code."""

    def close(self) -> None:
        """End the connection, if there is one; the next question makes another."""

    def run_in_pty(self, command: str | None) -> int:
        """The same on a terminal of its own, whose screen and keyboard are this one."""


class PipeClosedError(Exception):
    """The command at the other end reads no more: `end` tells why."""


class Pipe(Protocol):
    """A command of a guest's that is given something and says something.

    Raises WaitTimeoutError, and InvalidStateError.
    """

    def read(self, size: int) -> bytes:
        """What comes next on its stdout, nothing at the end."""

    def write(self, content: bytes) -> None:
        """All of it. Raises PipeClosedError."""

    def end(self) -> CommandResult:
        """Give it no more, and wait for its end; the rest of what it said."""


@runtime_checkable
class StreamsCommands(Protocol):
    """A guest whose commands can be streamed to and from."""

    def piped(self, command: str) -> AbstractContextManager[Pipe]:
        """Run a shell command line; leaving the block before its end gives it up."""
