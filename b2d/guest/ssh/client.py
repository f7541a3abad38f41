"""The guest over SSH: its commands and its shell."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from b2d.guest.base import ANSWER_LIMIT, Dial, Pipe
from b2d.guest.ssh.connection import ANSWER_S, connect
from b2d.guest.ssh.streams import translate_errors
from b2d.models import CommandResult, Endpoint
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from paramiko import Channel, Transport

FILE_S = 60.0
NO_EXIT_CODE = 255  # as ssh


def command_line(arguments: Sequence[str]) -> str:
    """What the guest's shell is given: one argument as it was typed, as in 2014; several, each exactly as it is."""
    return arguments[0] if len(arguments) == 1 else shlex.join(arguments)


class SshGuest:
    """Guest over one connection, made when it is needed first; close() or a `with` ends it."""

    def __init__(self, endpoint: Endpoint, paths: MachinePaths, dial: Dial | None = None) -> None:
        self._endpoint = endpoint
        self._paths = paths
        self._dial = dial
        self._connected: Transport | None = None

    def __enter__(self) -> "SshGuest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def run(self, command: str, timeout_s: float, limit: int = ANSWER_LIMIT) -> CommandResult:
        from b2d.guest.ssh.streams import collect

        with translate_errors():
            channel = self._channel()
            with _answered(channel):
                channel.exec_command(command)
            stdout, stderr = collect(channel, timeout_s, command, limit)
            return CommandResult(_exit_code(channel), stdout, stderr)

    def shell(self, command: str | None) -> int:
        from b2d.guest.ssh import streams, terminal

        if command is None and terminal.is_terminal():
            return self.run_in_pty(None)
        with translate_errors():
            channel = self._channel()
            _begin(channel, command)
            streams.connect(channel)
            return _exit_code(channel)

    def follow(self, command: str, heard: Callable[[bytes], None]) -> int:
        from b2d.guest.ssh.streams import pieces

        with translate_errors():
            channel = self._channel()
            _begin(channel, command)
            for piece in pieces(channel):
                heard(piece)
            return _exit_code(channel)

    @contextmanager
    def piped(self, command: str) -> Iterator[Pipe]:
        from b2d.guest.ssh.pipe import SshPipe

        with translate_errors():
            channel = self._channel()
            _begin(channel, command)
            channel.settimeout(FILE_S)
        try:
            yield SshPipe(channel, FILE_S)
        finally:
            with translate_errors():
                channel.close()

    def run_in_pty(self, command: str | None) -> int:
        from b2d.guest.ssh import terminal

        with translate_errors():
            channel = self._channel()
            with _answered(channel):
                terminal.set_window(channel)
            _begin(channel, command)
            terminal.run_interactive(channel)
            return _exit_code(channel)

    def _channel(self) -> "Channel":
        return self._transport().open_session(timeout=ANSWER_S)

    def _transport(self) -> "Transport":
        if self._connected is None or not self._connected.is_active():
            self._connected = connect(self._endpoint, self._paths, self._dial)
        return self._connected


def _begin(channel: "Channel", command: str | None) -> None:
    with _answered(channel):
        if command is None:
            channel.invoke_shell()  # without a terminal it reads its commands from stdin
        else:
            channel.exec_command(os.fsencode(command))


@contextmanager
def _answered(channel: "Channel") -> Iterator[None]:
    """Requests are answered at once, but where nobody answers paramiko waits for ever. Raises TimeoutError."""
    from paramiko import SSHException

    from b2d.guest.ssh.streams import closing_after

    with closing_after(channel, ANSWER_S) as late:
        try:
            yield
        except SSHException:
            if late.is_set():
                raise TimeoutError from None
            raise


def _exit_code(channel: "Channel") -> int:
    """The command's own, 255 where a signal ended it. Raises EOFError when the connection ended before it."""
    code = channel.recv_exit_status()
    if code < 0 and not channel.eof_received:
        raise EOFError("it ended before the command did")
    channel.close()
    return code if code >= 0 else NO_EXIT_CODE
