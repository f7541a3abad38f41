"""The guest over SSH: paramiko, a key made here, and a host key that was known before the first connection."""

import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from b2d.errors import B2dError, OutOfTime, WrongState
from b2d.keys import alias
from b2d.layout import MachinePaths
from b2d.model import CommandResult, Endpoint
from b2d.wait import wait_until

if TYPE_CHECKING:
    from paramiko import Channel, PKey, SFTPClient, Transport

USER = "docker"
CONNECT_S = 5.0  # for one attempt
PATIENCE_S = 15.0  # for all of them: sshd may still be on its way
FILE_S = 60.0
# The cheapest ones that are sound: AES-GCM has its checksum built in, and processors have both.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")


def command_line(arguments: Sequence[str]) -> str:
    """What the guest's shell is given: one argument as it was typed, as in 2014; several, each exactly as it is."""
    return arguments[0] if len(arguments) == 1 else shlex.join(arguments)


class SshGuest:
    """Guest over one connection, made when it is needed first; close() or a `with` ends it."""

    def __init__(self, endpoint: Endpoint, paths: MachinePaths) -> None:
        self._endpoint = endpoint
        self._paths = paths
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

        with self._edge():
            channel = self._channel()
            channel.exec_command(command)
            stdout, stderr = collect(channel, timeout_s, command)
            return CommandResult(channel.recv_exit_status(), stdout, stderr)

    def read(self, path: str) -> bytes:
        with self._edge(), self._sftp() as sftp, sftp.open(path, "rb") as file:
            return file.read()

    def write(self, path: str, content: bytes, mode: int) -> None:
        temporary = f"{path}.b2d-{time.monotonic_ns()}"
        with self._edge(), self._sftp() as sftp:
            with sftp.open(temporary, "wb") as file:
                file.write(content)
            sftp.chmod(temporary, mode)
            sftp.posix_rename(temporary, path)

    def shell(self, command: str | None) -> int:
        """Without a command and on a terminal: interactive. Else the streams of this process, byte by byte."""
        from b2d import streams, terminal

        with self._edge():
            channel = self._channel()
            if command is None and terminal.is_interactive():
                return terminal.interact(channel)
            if command is None:
                channel.invoke_shell()  # without a terminal: it reads its commands from stdin
            else:
                channel.exec_command(command)
            return streams.connect(channel)

    def _channel(self) -> "Channel":
        return self._transport().open_session(timeout=CONNECT_S)

    @contextmanager
    def _sftp(self) -> "Iterator[SFTPClient]":
        from paramiko import SFTPClient

        client = SFTPClient.from_transport(self._transport())
        if client is None:
            raise B2dError("the guest has no SFTP")
        client.get_channel().settimeout(FILE_S)  # type: ignore[union-attr]
        try:
            yield client
        finally:
            client.close()

    def _transport(self) -> "Transport":
        if self._connected is None or not self._connected.is_active():
            self._connected = self._connect()
        return self._connected

    def _connect(self) -> "Transport":
        """Try until the guest lets us in. Raises WrongState when it does not, B2dError when it is another guest."""
        from paramiko import AuthenticationException, Ed25519Key, SSHException

        key = Ed25519Key.from_private_key_file(str(self._paths.ssh_key))
        found: list[Transport] = []
        last: list[Exception] = []

        def attempt() -> bool:
            try:
                found.append(self._attempt(key))
            except AuthenticationException as error:
                raise WrongState(
                    f"the guest does not know the key {self._paths.ssh_key}", hint="b2d restart", details=str(error)
                ) from error
            except (OSError, SSHException, EOFError) as error:
                last.append(error)
            return bool(found)

        try:
            wait_until(attempt, what="the guest's ssh server", timeout_s=PATIENCE_S, interval_s=0.2)
        except OutOfTime as error:
            where = f"{self._endpoint.address}:{self._endpoint.ssh_port}"
            raise WrongState(
                f"the guest cannot be reached by ssh at {where}", hint="b2d status", details=str(last[-1])
            ) from error
        return found[0]

    def _attempt(self, key: "PKey") -> "Transport":
        from paramiko import Transport

        connection = socket.create_connection((self._endpoint.address, self._endpoint.ssh_port), CONNECT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = Transport(connection)
        transport.banner_timeout = transport.handshake_timeout = CONNECT_S
        options = transport.get_security_options()
        options.ciphers = tuple(name for name in CIPHERS if name in options.ciphers)
        options.kex = tuple(name for name in KEX if name in options.kex)
        try:
            transport.start_client(timeout=CONNECT_S)
            self._check_host_key(transport.get_remote_server_key())
            transport.auth_publickey(USER, key)
        except BaseException:
            transport.close()
            raise
        return transport

    def _check_host_key(self, key: "PKey") -> None:
        """Raise B2dError unless it is this machine's guest; an image of other origin is believed once, and pinned."""
        from paramiko import HostKeys

        known = HostKeys()
        if self._paths.known_hosts.exists():
            known.load(str(self._paths.known_hosts))
        name = alias(self._paths)
        if known.lookup(name) is None:
            known.add(name, key.get_name(), key)
            known.save(str(self._paths.known_hosts))
        if not known.check(name, key):
            raise B2dError(
                f"what answers at {self._endpoint.address}:{self._endpoint.ssh_port} is not this machine: "
                "its host key is another",
                hint="b2d restart; if its image was changed on purpose, remove " + str(self._paths.known_hosts),
            )

    @contextmanager
    def _edge(self) -> Iterator[None]:
        from paramiko import SSHException

        try:
            yield
        except TimeoutError as error:
            raise OutOfTime("the guest stopped answering", hint="b2d logs") from error
        except (SSHException, EOFError) as error:
            raise WrongState(f"the connection to the guest broke: {error}", hint="b2d status") from error
        except FileNotFoundError as error:
            raise B2dError(f"there is no such file in the guest: {error}") from error
        except OSError as error:
            raise B2dError(f"the guest refused: {error}") from error
