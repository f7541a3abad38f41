"""The interface of a running guest: commands, and streams to and from them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import socket

from b2d.models import CommandResult

Dial = Callable[[int, float], "socket.socket"]  # a port of the guest, and a timeout in seconds


ANSWER_LIMIT = 1 << 20  # bytes of a command's output; b2d's own commands write a few lines
USER = "docker"  # of the guest, in every image
NO_EXIT_CODE = 255  # of a command whose end is not known, as of ssh


class Guest(Protocol):
    """The Linux in a machine, over a control channel. Raises InvalidStateError when it cannot be reached."""

    def run(self, command: str, timeout_s: float, limit: int = ANSWER_LIMIT) -> CommandResult:
        """Run a shell command line as the user docker.

        Raises WaitTimeoutError, and InvalidStateError for more than `limit` bytes.
        """

    def shell(self, command: str | None) -> int:
        """Connect this process's streams to `command` and return its exit code, 255 when it has none.

        None starts a shell, on a terminal when this process has one.
        """

    def follow(self, command: str, on_output: Callable[[bytes], None]) -> int:
        """Pass the output of `command` to `on_output` as it comes, and return the exit code."""

    def close(self) -> None:
        """End the connection, if there is one; the next command opens another."""

    def run_in_pty(self, command: str | None) -> int:
        """Run `command` on a terminal of its own, connected to this one, and return the exit code."""


class PipeClosedError(Exception):
    """The command reads no more; Pipe.end returns the reason."""


class Pipe(Protocol):
    """A command in a guest with an open stdin and stdout.

    Raises WaitTimeoutError and InvalidStateError.
    """

    def read(self, size: int) -> bytes:
        """Return the next bytes of stdout, none at its end."""

    def write(self, content: bytes) -> None:
        """Write all of `content` to stdin. Raises PipeClosedError."""

    def end(self) -> CommandResult:
        """Close stdin, wait for the command to end, and return the rest of its output."""


@runtime_checkable
class StreamsCommands(Protocol):
    """A guest that streams to and from commands."""

    def piped(self, command: str) -> AbstractContextManager[Pipe]:
        """Run a shell command line during the block; leaving the block early ends it."""
