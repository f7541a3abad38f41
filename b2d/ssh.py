"""The guest over SSH: its commands, its shell, its files."""

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from b2d.errors import B2dError
from b2d.layout import MachinePaths
from b2d.model import CommandResult, Endpoint
from b2d.ports import Dial, Pipe
from b2d.ssh_connection import ANSWER_S, DAMAGE, PACKET_LIMIT, connect
from b2d.streams import edge

if TYPE_CHECKING:
    from paramiko import Channel, SFTPClient, Transport

FILE_S = 60.0
READ_LIMIT = 64 << 20  # bytes of a file of the guest's that are read into memory: of a longer one, its end
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

    def run(self, command: str, timeout_s: float) -> CommandResult:
        from b2d.streams import collect

        with edge():
            channel = self._channel()
            with _answered(channel):
                channel.exec_command(command)
            stdout, stderr = collect(channel, timeout_s, command)
            return CommandResult(_exit_code(channel), stdout, stderr)

    def read(self, path: str) -> bytes:
        with edge(), self._sftp(path) as sftp, sftp.open(path, "rb") as file:
            size = file.stat().st_size or 0
            file.seek(max(0, size - READ_LIMIT))
            file.prefetch(size)  # from here on: it keeps a note of every piece
            return file.read(READ_LIMIT)

    def write(self, path: str, content: bytes, mode: int) -> None:
        temporary = f"{path}.b2d-{time.monotonic_ns()}"
        with edge(), self._sftp(path) as sftp:
            with sftp.open(temporary, "wb") as file:
                file.set_pipelined(True)
                file.write(content)
            sftp.chmod(temporary, mode)
            sftp.posix_rename(temporary, path)

    def shell(self, command: str | None) -> int:
        from b2d import streams, terminal

        if command is None and terminal.is_there():
            return self.on_terminal(None)
        with edge():
            channel = self._channel()
            _begin(channel, command)
            streams.connect(channel)
            return _exit_code(channel)

    def follow(self, command: str, heard: Callable[[bytes], None]) -> int:
        from b2d.streams import pieces

        with edge():
            channel = self._channel()
            _begin(channel, command)
            for piece in pieces(channel):
                heard(piece)
            return _exit_code(channel)

    @contextmanager
    def piped(self, command: str) -> Iterator[Pipe]:
        from b2d.ssh_pipe import SshPipe

        with edge():
            channel = self._channel()
            _begin(channel, command)
            channel.settimeout(FILE_S)
        try:
            yield SshPipe(channel, FILE_S)
        finally:
            with edge():
                channel.close()

    def on_terminal(self, command: str | None) -> int:
        from b2d import terminal

        with edge():
            channel = self._channel()
            with _answered(channel):
                terminal.give(channel)
            _begin(channel, command)
            terminal.interact(channel)
            return _exit_code(channel)

    def _channel(self) -> "Channel":
        return self._transport().open_session(timeout=ANSWER_S)

    @contextmanager
    def _sftp(self, path: str) -> "Iterator[SFTPClient]":
        """Files of the guest. Raises B2dError naming `path` where the guest refuses."""
        from paramiko.sftp import SFTPError

        channel = self._channel()
        with _answered(channel):
            channel.invoke_subsystem("sftp")
        channel.settimeout(FILE_S)
        try:
            with closing(_sftp_client(channel)) as client:
                yield client
        except TimeoutError:
            raise
        except OSError as error:
            raise B2dError(f"{path} in the guest: {error.strerror or error}") from error
        except (SFTPError, *DAMAGE) as error:
            raise B2dError(f"{path} in the guest: it answers nonsense: {error}") from error
        finally:
            channel.close()

    def _transport(self) -> "Transport":
        if self._connected is None or not self._connected.is_active():
            self._connected = connect(self._endpoint, self._paths, self._dial)
        return self._connected


def _sftp_client(channel: "Channel") -> "SFTPClient":
    """One of paramiko's, for a server that is not trusted: an answer is as large as its first bytes say."""
    from paramiko import SFTPClient
    from paramiko.sftp import SFTPError

    class Suspicious(SFTPClient):
        def _read_all(self, size: int) -> bytes:
            if size > PACKET_LIMIT:
                raise SFTPError(f"an answer of {size} bytes")
            content: bytes = super()._read_all(size)  # type: ignore[misc]
            return content

    return Suspicious(channel)


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

    from b2d.streams import closing_after

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
