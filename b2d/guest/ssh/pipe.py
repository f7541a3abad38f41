"""A command in a guest over SSH with open stdin and stdout."""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from b2d.guest.base import NO_EXIT_CODE, PipeClosedError
from b2d.guest.ssh.streams import CHUNK, translate_errors
from b2d.models import CommandResult

if TYPE_CHECKING:
    from paramiko import Channel

STDERR_LIMIT = 1 << 16  # bytes of stderr, the last ones
REST_LIMIT = 1 << 20  # bytes of stdout after its expected end: tar pads by some KiB


class SshPipe:
    """The channel of a command that runs in the guest of a machine; each reply may take `reply_s` seconds."""

    def __init__(self, channel: "Channel", reply_s: float, machine: str) -> None:
        """Start reading stderr."""
        self._machine = machine
        self._channel = channel
        self._reply_s = reply_s
        self._stderr = b""
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    def read(self, size: int) -> bytes:
        """Return the next bytes of stdout."""
        with translate_errors(self._machine):
            return self._channel.recv(size)

    def write(self, content: bytes) -> None:
        """Write to stdin. Raises PipeClosedError."""
        with translate_errors(self._machine):
            try:
                self._channel.sendall(content)
            except TimeoutError:
                raise
            except OSError as error:
                if self._channel.status_event.wait(self._reply_s) and self._channel.exit_status >= 0:
                    raise PipeClosedError from error
                raise

    def end(self) -> CommandResult:
        """Close stdin, wait for the command, and return its result."""
        with translate_errors(self._machine):
            with suppress(OSError):  # it has ended already
                self._channel.shutdown_write()
            rest = b""
            while chunk := self._channel.recv(CHUNK):
                rest += chunk
                if len(rest) > REST_LIMIT:
                    raise EOFError("the command writes more than expected")
            self._reader.join(self._reply_s)
            if not self._channel.status_event.wait(self._reply_s):
                raise TimeoutError
            code = self._channel.exit_status
            if code < 0 and not self._channel.eof_received:
                raise EOFError("it ended before the command")
        return CommandResult(code if code >= 0 else NO_EXIT_CODE, rest, self._stderr)

    def _read_stderr(self) -> None:
        """Read stderr, since the command waits otherwise; silence of any length is no error."""
        while True:
            with suppress(TimeoutError, EOFError, OSError):
                chunk = self._channel.recv_stderr(CHUNK)
                if not chunk:
                    return
                self._stderr = (self._stderr + chunk)[-STDERR_LIMIT:]
                continue
            if self._channel.closed:
                return
