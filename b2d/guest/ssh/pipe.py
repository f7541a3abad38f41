"""A command of a guest's over SSH, as a pipe both ways."""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from b2d.guest.base import PipeClosedError
from b2d.guest.ssh.streams import CHUNK, translate_errors
from b2d.models import CommandResult

if TYPE_CHECKING:
    from paramiko import Channel

KEPT = 1 << 16  # bytes of what it says on stderr, the last ones
REST_LIMIT = 1 << 20  # bytes of what it says when all should be said: a tar pads by some kilobytes
NO_EXIT_CODE = 255


class SshPipe:
    """The channel of a command that has begun; each answer may take `patience_s`."""

    def __init__(self, channel: "Channel", patience_s: float) -> None:
        self._channel = channel
        self._patience_s = patience_s
        self._problems = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def read(self, size: int) -> bytes:
        with translate_errors():
            return self._channel.recv(size)

    def write(self, content: bytes) -> None:
        with translate_errors():
            try:
                self._channel.sendall(content)
            except TimeoutError:
                raise
            except OSError as error:
                if self._channel.status_event.wait(self._patience_s) and self._channel.exit_status >= 0:
                    raise PipeClosedError from error
                raise

    def end(self) -> CommandResult:
        with translate_errors():
            with suppress(OSError):  # it has ended already
                self._channel.shutdown_write()
            rest = b""
            while piece := self._channel.recv(CHUNK):
                rest += piece
                if len(rest) > REST_LIMIT:
                    raise EOFError("it did not end with what it had to say")
            self._listener.join(self._patience_s)
            if not self._channel.status_event.wait(self._patience_s):
                raise TimeoutError
            code = self._channel.exit_status
            if code < 0 and not self._channel.eof_received:
                raise EOFError("it ended before the command did")
        return CommandResult(code if code >= 0 else NO_EXIT_CODE, rest, self._problems)

    def _listen(self) -> None:
        """Who does not, makes the command wait; for how long it says nothing does not matter."""
        while True:
            with suppress(TimeoutError, EOFError, OSError):
                said = self._channel.recv_stderr(CHUNK)
                if not said:
                    return
                self._problems = (self._problems + said)[-KEPT:]
                continue
            if self._channel.closed:
                return
