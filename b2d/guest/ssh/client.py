"""The guest over SSH: its commands and its shell."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from b2d.guest.base import ANSWER_LIMIT, NO_EXIT_CODE, Dial, Pipe
from b2d.guest.ssh.connection import ANSWER_S, connect
from b2d.guest.ssh.streams import translate_errors
from b2d.models import CommandResult, Endpoint
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from paramiko import Channel, Transport

FILE_S = 60.0
Connector = Callable[[Endpoint, MachinePaths, Dial | None], "Transport"]


def command_line(arguments: Sequence[str]) -> str:
    """Return the command for the guest's shell: one argument as typed, several quoted each."""
    return arguments[0] if len(arguments) == 1 else shlex.join(arguments)


class SshGuest:
    """A Guest over one SSH connection, opened on first use; close() or a `with` ends it."""

    def __init__(
        self, endpoint: Endpoint, paths: MachinePaths, dial: Dial | None = None, connector: Connector = connect
    ) -> None:
        """Create a guest without connecting; `dial` is for connections without a port on this host."""
        self._endpoint = endpoint
        self._paths = paths
        self._dial = dial
        self._connector = connector
        self._current: Transport | None = None

    def __enter__(self) -> "SshGuest":
        """Return the guest."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the connection."""
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def run(self, command: str, timeout_s: float, limit: int = ANSWER_LIMIT) -> CommandResult:
        """Run a command as Guest.run describes."""
        from b2d.guest.ssh.streams import collect

        with translate_errors(self._paths.folder.name):
            channel = self._channel()
            with _reply_timeout(channel):
                channel.exec_command(command)
            stdout, stderr = collect(channel, timeout_s, command, limit, self._paths.folder.name)
            return CommandResult(_exit_code(channel), stdout, stderr)

    def shell(self, command: str | None) -> int:
        """Connect this process's streams to a command as Guest.shell describes."""
        from b2d.guest.ssh import streams, terminal

        if command is None and terminal.is_terminal():
            return self.run_in_pty(None)
        with translate_errors(self._paths.folder.name):
            channel = self._channel()
            _begin(channel, command)
            streams.connect(channel)
            return _exit_code(channel)

    def follow(self, command: str, on_output: Callable[[bytes], None]) -> int:
        """Pass on the output of a command as Guest.follow describes."""
        from b2d.guest.ssh.streams import read_output

        with translate_errors(self._paths.folder.name):
            channel = self._channel()
            _begin(channel, command)
            for chunk in read_output(channel):
                on_output(chunk)
            return _exit_code(channel)

    @contextmanager
    def piped(self, command: str) -> Iterator[Pipe]:
        """Run a command with open streams as StreamsCommands.piped describes."""
        from b2d.guest.ssh.pipe import SshPipe

        with translate_errors(self._paths.folder.name):
            channel = self._channel()
            _begin(channel, command)
            channel.settimeout(FILE_S)
        try:
            yield SshPipe(channel, FILE_S, self._paths.folder.name)
        finally:
            with translate_errors(self._paths.folder.name):
                channel.close()

    def run_in_pty(self, command: str | None) -> int:
        """Run a command on a terminal as Guest.run_in_pty describes."""
        from b2d.guest.ssh import terminal

        with translate_errors(self._paths.folder.name):
            channel = self._channel()
            with _reply_timeout(channel):
                terminal.set_window(channel)
            _begin(channel, command)
            terminal.run_interactive(channel)
            return _exit_code(channel)

    def _channel(self) -> "Channel":
        return self._transport().open_session(timeout=ANSWER_S)

    def _transport(self) -> "Transport":
        if self._current is None or not self._current.is_active():
            self._current = self._connector(self._endpoint, self._paths, self._dial)
        return self._current


def _begin(channel: "Channel", command: str | None) -> None:
    with _reply_timeout(channel):
        if command is None:
            channel.invoke_shell()  # without a terminal the shell reads commands from stdin
        else:
            channel.exec_command(os.fsencode(command))


@contextmanager
def _reply_timeout(channel: "Channel") -> Iterator[None]:
    """Limit the wait for a reply, which paramiko would not. Raises TimeoutError."""
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
    """Return the command's exit code, 255 where a signal ended it. Raises EOFError when the connection ended first."""
    code = channel.recv_exit_status()
    if code < 0 and not channel.eof_received:
        raise EOFError("it ended before the command")
    channel.close()
    return code if code >= 0 else NO_EXIT_CODE
