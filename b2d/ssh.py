"""The guest over SSH: paramiko, a key made here, and a host key that was known before the first connection."""

import logging
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.errors import B2dError, OutOfTime, WrongState
from b2d.keys import alias
from b2d.layout import MachinePaths
from b2d.model import CommandResult, Endpoint
from b2d.wait import wait_until

if TYPE_CHECKING:
    from paramiko import Channel, HostKeys, PKey, SFTPClient, Transport

USER = "docker"
CONNECT_S = 5.0  # for the first attempt, until sshd greets; the others have more
HANDSHAKE_S = 60.0  # for its key exchange, which takes seconds on a CPU that VirtualBox emulates
PATIENCE_S = 20.0  # in which they begin: sshd may still be on its way
ANSWER_S = 15.0  # for one answer of a guest that has let us in, or is about to
FILE_S = 60.0
NO_EXIT_CODE = 255  # as ssh
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
            with _answered(channel):
                channel.exec_command(command)
            stdout, stderr = collect(channel, timeout_s, command)
            return CommandResult(_exit_code(channel), stdout, stderr)

    def read(self, path: str) -> bytes:
        with self._edge(), self._sftp(path) as sftp, sftp.open(path, "rb") as file:
            file.prefetch()
            return file.read()

    def write(self, path: str, content: bytes, mode: int) -> None:
        temporary = f"{path}.b2d-{time.monotonic_ns()}"
        with self._edge(), self._sftp(path) as sftp:
            with sftp.open(temporary, "wb") as file:
                file.set_pipelined(True)
                file.write(content)
            sftp.chmod(temporary, mode)
            sftp.posix_rename(temporary, path)

    def shell(self, command: str | None) -> int:
        from b2d import streams, terminal

        if command is None and terminal.is_there():
            return self.on_terminal(None)
        with self._edge():
            channel = self._channel()
            _begin(channel, command)
            streams.connect(channel)
            return _exit_code(channel)

    def on_terminal(self, command: str | None) -> int:
        from b2d import terminal

        with self._edge():
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
        from paramiko import SFTPClient

        channel = self._channel()
        with _answered(channel):
            channel.invoke_subsystem("sftp")
        channel.settimeout(FILE_S)
        client = SFTPClient(channel)
        try:
            yield client
        except TimeoutError:
            raise
        except OSError as error:
            raise B2dError(f"{path} in the guest: {error.strerror or error}") from error
        finally:
            client.close()

    def _transport(self) -> "Transport":
        if self._connected is None or not self._connected.is_active():
            self._connected = self._connect()
        return self._connected

    def _connect(self) -> "Transport":
        """Try until the guest lets us in. Raises WrongState when it does not, B2dError when it is another guest."""
        from paramiko import AuthenticationException, SSHException

        key = self._key()
        _silence()
        found: list[Transport] = []
        last: list[Exception] = []

        def attempt() -> bool:
            try:
                found.append(self._attempt(key, min(CONNECT_S * 2 ** len(last), ANSWER_S)))
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

    def _key(self) -> "PKey":
        from paramiko import Ed25519Key, SSHException

        path = self._paths.ssh_key
        try:
            return Ed25519Key.from_private_key_file(str(path))
        except FileNotFoundError as error:
            raise B2dError(f"{path} is gone, and only it opens the guest", hint="b2d restart") from error
        except (OSError, SSHException, ValueError) as error:
            raise B2dError(f"{path} is not a usable key: {error}", hint="move it away, then: b2d restart") from error

    def _attempt(self, key: "PKey", greeting_s: float) -> "Transport":
        from paramiko import Transport

        connection = socket.create_connection((self._endpoint.address, self._endpoint.ssh_port), CONNECT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = Transport(connection)
        transport.banner_timeout = greeting_s
        transport.handshake_timeout = HANDSHAKE_S
        transport.auth_timeout = ANSWER_S
        options = transport.get_security_options()
        options.ciphers = tuple(name for name in CIPHERS if name in options.ciphers)
        options.kex = tuple(name for name in KEX if name in options.kex)
        try:
            transport.start_client(timeout=HANDSHAKE_S)
            self._check_host_key(transport.get_remote_server_key())
            _authenticate(transport, key)
        except BaseException:
            transport.close()
            raise
        return transport

    def _check_host_key(self, key: "PKey") -> None:
        """Raise B2dError unless it is this machine's guest; an image of other origin is believed once, and pinned."""
        from paramiko import HostKeys

        known, name, path = HostKeys(), alias(self._paths), self._paths.known_hosts
        if path.exists():
            known = _read_hosts(path)
        else:
            known.add(name, key.get_name(), key)
            known.save(str(path))
        if not known.check(name, key):
            raise B2dError(
                f"what answers at {self._endpoint.address}:{self._endpoint.ssh_port} is not this machine: "
                "its host key is another",
                hint=f"b2d restart; if its image was changed on purpose, remove {path}",
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
        except BrokenPipeError:  # of our own stdout: the command line ends quietly then
            raise
        except OSError as error:
            raise WrongState(f"the connection to the guest broke: {error}", hint="b2d status") from error


def _silence() -> None:
    """What goes wrong is told by an error; paramiko would also write its traceback on stderr."""
    logger = logging.getLogger("paramiko")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _authenticate(transport: "Transport", key: "PKey") -> None:
    """Raises AuthenticationException for a no alone: for paramiko it is one too when nobody answers."""
    from paramiko import AuthenticationException, SSHException

    begin = time.monotonic()
    try:
        transport.auth_publickey(USER, key)
    except AuthenticationException as error:
        if not transport.is_active() or time.monotonic() - begin >= ANSWER_S:
            raise SSHException(str(error)) from error
        raise


def _begin(channel: "Channel", command: str | None) -> None:
    with _answered(channel):
        if command is None:
            channel.invoke_shell()  # without a terminal it reads its commands from stdin
        else:
            channel.exec_command(command)


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


def _read_hosts(path: Path) -> "HostKeys":
    from paramiko import HostKeys
    from paramiko.hostkeys import InvalidHostKey

    try:
        return HostKeys(str(path))
    except (OSError, ValueError, InvalidHostKey) as error:
        raise B2dError(f"{path} cannot be read: {error}", hint="move it away, then: b2d restart") from error
