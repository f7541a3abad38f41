"""An SSH server on 127.0.0.1 that runs commands with this host's sh, and misbehaves as tests require."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import paramiko
from paramiko import Channel, PKey, ServerInterface, Transport

from b2d.guest.ssh import keys
from b2d.paths import MachinePaths

CHUNK = 1 << 15
OK, NO = 0, 2  # paramiko.AUTH_SUCCESSFUL, OPEN_SUCCEEDED and SFTP_OK; AUTH_FAILED


@dataclass
class Sshd:
    """The server's behaviour and its recorded requests; changes take effect at the next connection."""

    host_key: PKey
    lets_in: bytes  # the authorized public key, in the protocol's format
    silent: bool = False  # accepts connections and never sends anything
    greets_after_s: float = 0.0
    hangs_up: str = ""  # "banner", "auth", "output", "exit": where the connection is closed
    password: str = ""  # that lets in; "" for none
    mute: str = ""  # "auth", "exec": the request that is never answered
    exit_code: bool = True  # False: commands end without an exit status, as after a signal
    port: int = 0
    connections: int = 0
    tried: list[tuple[str, bytes]] = field(default_factory=list)  # user and key of each authentication
    terminals: list[tuple[bytes, int, int]] = field(default_factory=list)  # kind, columns, rows
    sessions: list[int] = field(default_factory=list)  # pids of the commands' first processes
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator["Sshd"]:
        """Serve until the block ends."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            try:
                yield self
            finally:
                self.over.set()
                listener.shutdown(socket.SHUT_RDWR)
                for session in self.sessions:
                    with suppress(ProcessLookupError):
                        os.killpg(session, signal.SIGKILL)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while not self.over.is_set():
                connection, _ = listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        if self.silent:
            self.over.wait()
        if self.silent or self.hangs_up == "banner":
            connection.close()
            return
        self.over.wait(self.greets_after_s)
        transport = Transport(connection)
        transport.add_server_key(self.host_key)
        with suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=_Session(self, transport))


def machine(folder: Path) -> MachinePaths:
    """Create the machine `box` with its keys."""
    paths = MachinePaths(folder / "box")
    paths.folder.mkdir()
    keys.ensure_client(paths)
    keys.ensure_host(paths)
    return paths


def guest_of(paths: MachinePaths) -> Sshd:
    """Return the SSH server of that machine's guest."""
    own = paramiko.Ed25519Key.from_private_key_file(str(paths.host_key))
    return Sshd(own, paramiko.Ed25519Key.from_private_key_file(str(paths.ssh_key)).asbytes())


class _Session(ServerInterface):
    """One connection."""

    def __init__(self, sshd: Sshd, transport: Transport) -> None:
        self._sshd = sshd
        self._transport = transport

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,password,keyboard-interactive"

    def check_auth_publickey(self, username: str, key: PKey) -> int:
        self._sshd.tried.append((username, key.asbytes()))
        if self._sshd.mute == "auth":
            self._sshd.over.wait()
        if self._sshd.hangs_up == "auth":
            self._transport.close()
        return OK if key.asbytes() == self._sshd.lets_in else NO

    def check_auth_password(self, username: str, password: str) -> int:
        self._sshd.tried.append((username, password.encode()))
        return OK if self._sshd.password and password == self._sshd.password else NO

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OK

    def check_channel_pty_request(  # noqa: PLR0917  paramiko's signature
        self, channel: Channel, term: bytes, width: int, height: int, pixelwidth: int, pixelheight: int, modes: bytes
    ) -> bool:
        self._sshd.terminals.append((term, width, height))
        return True

    def check_channel_window_change_request(
        self, channel: Channel, width: int, height: int, pixelwidth: int, pixelheight: int
    ) -> bool:
        return True

    def check_channel_shell_request(self, channel: Channel) -> bool:
        return self._begin(channel, ["sh"])

    def check_channel_exec_request(self, channel: Channel, command: bytes) -> bool:
        return self._begin(channel, ["sh", "-c", command.decode()])

    def _begin(self, channel: Channel, command: list[str]) -> bool:
        if self._sshd.mute == "exec":
            self._sshd.over.wait()
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    def _run(self, channel: Channel, command: list[str]) -> None:
        with subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            self._sshd.sessions.append(process.pid)
            code = self._join(channel, process)
        if self._sshd.hangs_up == "exit":
            self._cut()
        with suppress(OSError, EOFError):
            if self._sshd.exit_code and code >= 0:
                channel.send_exit_status(code)
            channel.shutdown_write()
            channel.close()

    def _join(self, channel: Channel, process: "subprocess.Popen[bytes]") -> int:
        """Copy all streams until the command has ended."""
        assert process.stdin and process.stdout and process.stderr
        threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True).start()
        errors = threading.Thread(target=_copy, args=(process.stderr.fileno(), channel.sendall_stderr), daemon=True)
        errors.start()
        if self._sshd.hangs_up == "output":
            channel.sendall(os.read(process.stdout.fileno(), CHUNK))
            self._cut()
        if not _copy(process.stdout.fileno(), channel.sendall):
            process.kill()
        errors.join()
        return process.wait()

    def _cut(self) -> None:
        time.sleep(0.1)  # earlier data is on its way
        self._transport.close()


def _feed(channel: Channel, stdin: IO[bytes]) -> None:
    with suppress(OSError, ValueError):  # the command has ended
        while chunk := channel.recv(CHUNK):
            rest = memoryview(chunk)
            while rest:
                rest = rest[stdin.write(rest) :]
        stdin.close()


def _copy(source: int, send: object) -> bool:
    """Copy data and return False when the receiver is closed."""
    assert callable(send)
    try:
        while chunk := os.read(source, CHUNK):
            send(chunk)
    except (OSError, EOFError):
        return False
    return True
