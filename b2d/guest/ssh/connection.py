"""The way into a guest: an SSH connection by a key made here, to a host key that was known before."""

import logging
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from b2d.errors import B2dError, HypervisorError, InvalidStateError, WaitTimeoutError
from b2d.guest.base import Dial
from b2d.guest.ssh.keys import ensure_known, host_alias
from b2d.host.polling import wait_until
from b2d.models import GUEST_SSH_PORT, Endpoint
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from paramiko import Channel, HostKeys, PKey, Transport

USER = "docker"
CONNECT_S = 5.0  # for the first attempt, until sshd greets
CONNECT_GROWTH = 3  # from one attempt to the next: a busy CPU that VirtualBox emulates takes half a minute to greet
HANDSHAKE_S = 60.0  # for its key exchange, and again for letting us in: each takes a quarter of a minute there too
GREETING_S = 25.0  # in which they begin: sshd may still be on its way
UNREAD_LIMIT = 16 << 20  # bytes of a command's output that wait to be read; the window has 2 MiB
PACKET_LIMIT = 1 << 20  # bytes; what is agreed on has 32 KiB
# what the library raises for files of keys, and for answers, that are damaged
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, struct.error)
ANSWER_S = 30.0  # for one answer of a guest that has let us in
# The cheapest ones that are sound: AES-GCM has its checksum built in, and processors have both.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")


def connect(endpoint: Endpoint, paths: MachinePaths, dial: Dial | None = None) -> "Transport":
    """Try until the guest lets us in. Raises InvalidStateError when it does not, B2dError when it is another guest.

    `dial` connects to a port of the guest; without it the endpoint's SSH port leads there.
    """
    from paramiko import AuthenticationException, SSHException

    def reach() -> socket.socket:
        if dial is not None:
            return dial(GUEST_SSH_PORT, CONNECT_S)
        return socket.create_connection((endpoint.address, endpoint.ssh_port), CONNECT_S)

    key = _key(paths)
    _disable_logging()
    found: list[Transport] = []
    last: list[Exception] = []

    def attempt() -> bool:
        try:
            greeting_s = min(CONNECT_S * CONNECT_GROWTH ** len(last), HANDSHAKE_S)
            found.append(_attempt(reach(), endpoint, paths, key, greeting_s))
        except AuthenticationException as error:
            raise InvalidStateError(
                f"the guest does not know the key {paths.ssh_key}", hint="b2d restart", details=str(error)
            ) from error
        except (OSError, SSHException, EOFError, HypervisorError, WaitTimeoutError) as error:
            last.append(error)
        return bool(found)

    try:
        wait_until(attempt, what="the guest's ssh server", timeout_s=GREETING_S, interval_s=0.2)
    except WaitTimeoutError as error:
        where = f"{endpoint.address}:{endpoint.ssh_port}"
        raise InvalidStateError(
            f"the guest cannot be reached by ssh at {where}", hint="b2d status", details=str(last[-1])
        ) from error
    return found[0]


def _key(paths: MachinePaths) -> "PKey":
    from paramiko import Ed25519Key, SSHException

    path = paths.ssh_key
    try:
        return Ed25519Key.from_private_key_file(str(path))
    except FileNotFoundError as error:
        raise B2dError(f"{path} is gone, and only it opens the guest", hint="b2d restart") from error
    except (OSError, SSHException, *DAMAGE) as error:
        raise B2dError(f"{path} is not a usable key: {error}", hint="move it away, then: b2d restart") from error


def _attempt(
    connection: socket.socket, endpoint: Endpoint, paths: MachinePaths, key: "PKey", greeting_s: float
) -> "Transport":
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = _transport(connection)
    transport.banner_timeout = greeting_s
    transport.handshake_timeout = HANDSHAKE_S
    transport.auth_timeout = HANDSHAKE_S
    options = transport.get_security_options()
    options.ciphers = tuple(name for name in CIPHERS if name in options.ciphers)
    options.kex = tuple(name for name in KEX if name in options.kex)
    try:
        transport.start_client(timeout=HANDSHAKE_S)
        _check_host_key(endpoint, paths, transport.get_remote_server_key())
        _authenticate(transport, key)
    except BaseException:
        transport.close()
        transport.packetizer.complete_handshake()  # its timer: a thread that would wait for a minute
        raise
    return transport


def _transport(connection: socket.socket) -> "Transport":
    """One of paramiko's, for a server that is not trusted."""
    from paramiko import SSHException, Transport
    from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA

    handlers: dict[int, Any] = dict(Transport._channel_handler_table)  # type: ignore[attr-defined]
    guarded = {kind: _limit_unread(handlers[kind]) for kind in (MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA)}

    class Suspicious(Transport):
        """Raises SSHException where its thread met anything else in what came: it is raised in ours as it is there."""

        _channel_handler_table: ClassVar[dict[int, Any]] = {**handlers, **guarded}

        def get_exception(self) -> Exception | None:
            error: Exception | None = super().get_exception()
            if error is None or isinstance(error, SSHException | EOFError | OSError):
                return error
            return SSHException(f"it speaks nonsense: {error!r}")

    return Suspicious(_Bounded(connection))  # type: ignore[arg-type]


def _limit_unread(feed: Callable[["Channel", object], None]) -> Callable[["Channel", object], None]:
    """What is sent beyond the window would wait in memory, and paramiko takes it."""
    from paramiko import SSHException

    def checked(channel: Any, message: object) -> None:
        if len(channel.in_buffer) + len(channel.in_stderr_buffer) > UNREAD_LIMIT:
            raise SSHException("it sends more than it was allowed to")
        feed(channel, message)

    return checked


class _Bounded:
    """A connection; a packet is as large as its first bytes say, and room is made for it at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def recv(self, size: int) -> bytes:
        from paramiko import SSHException

        if size > PACKET_LIMIT:
            raise SSHException(f"a packet of {size} bytes")
        return self._connection.recv(size)


def _check_host_key(endpoint: Endpoint, paths: MachinePaths, key: "PKey") -> None:
    """Raise B2dError unless it is this machine's guest, whose key was made here."""
    ensure_known(paths)
    if not _read_hosts(paths.known_hosts).check(host_alias(paths), key):
        raise B2dError(
            f"what answers at {endpoint.address}:{endpoint.ssh_port} is not this machine: its host key is another",
            hint=f"b2d restart --vm {paths.folder.name}",  # the guest gets its key with each boot
        )


def _disable_logging() -> None:
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
        if not transport.is_active() or time.monotonic() - begin >= HANDSHAKE_S:
            raise SSHException(str(error)) from error
        raise


def _read_hosts(path: Path) -> "HostKeys":
    from paramiko import HostKeys
    from paramiko.hostkeys import InvalidHostKey

    try:
        return HostKeys(str(path))
    except (OSError, InvalidHostKey, *DAMAGE) as error:
        raise B2dError(f"{path} cannot be read: {error}", hint="move it away, then: b2d restart") from error
