"""SSH connections to a guest: by a key that was created on this host, to a host key that is known before."""

import logging
import shlex
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from b2d.errors import B2dError, GuestUnreachableError, HypervisorError, InvalidStateError, WaitTimeoutError
from b2d.guest.base import USER, Dial
from b2d.guest.ssh.keys import is_known
from b2d.host.polling import wait_until
from b2d.machine_names import command_for
from b2d.models import GUEST_SSH_PORT, Endpoint
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from paramiko import Channel, PKey, Transport

    Login = Callable[[Transport], None]

CONNECT_S = 5.0  # for the first attempt, until sshd's banner
CONNECT_GROWTH = 3  # between attempts: under VirtualBox a busy emulated CPU takes half a minute to greet
HANDSHAKE_S = 60.0  # for the key exchange, and again for authentication: each takes 15 s there
GREETING_S = 25.0  # for starting attempts: sshd may not be running yet
UNREAD_LIMIT = 16 << 20  # bytes of unread output of a command; the window has 2 MiB
PACKET_LIMIT = 1 << 20  # bytes; 32 KiB are negotiated
# the library's errors for damaged key files and responses
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, struct.error)
ANSWER_S = 30.0  # for a reply of a guest after authentication
# The fastest secure ones: AES-GCM includes its checksum, and processors support both.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")


def connect(endpoint: Endpoint, paths: MachinePaths, dial: Dial | None = None) -> "Transport":
    """Connect to the guest, repeatedly until it accepts.

    Raises InvalidStateError when it does not, and B2dError when it is another guest. `dial` connects to a port of the
    guest; without it the endpoint's SSH port leads there.
    """
    key = read_key(paths)

    def log_in(transport: "Transport") -> None:
        check_host_key(endpoint, paths, transport.get_remote_server_key())
        authenticate(transport, lambda: transport.auth_publickey(USER, key))

    return connect_with(log_in, endpoint, paths, dial, GREETING_S, CONNECT_S)


def connect_with(
    log_in: "Login",
    endpoint: Endpoint,
    paths: MachinePaths,
    dial: Dial | None,
    limit_s: float,
    first_s: float,
) -> "Transport":
    """Connect as connect() does, with `log_in` to check the host key and to authenticate.

    No attempt starts later than `limit_s`; the first one waits `first_s` for a greeting, later ones longer.
    """
    from paramiko import AuthenticationException, SSHException

    def open_socket() -> socket.socket:
        if dial is not None:
            return dial(GUEST_SSH_PORT, first_s)
        return socket.create_connection((endpoint.address, endpoint.ssh_port), first_s)

    name = paths.folder.name
    _disable_logging()
    transports: list[Transport] = []
    failures: list[Exception] = []

    def attempt() -> bool:
        try:
            greeting_s = min(first_s * CONNECT_GROWTH ** len(failures), HANDSHAKE_S)
            transports.append(_attempt(open_socket(), log_in, greeting_s))
        except AuthenticationException as error:
            message = f"the guest does not accept the key {paths.ssh_key}"
            raise InvalidStateError(message, hint=command_for("restart", name), details=str(error)) from error
        except (OSError, SSHException, EOFError, HypervisorError, WaitTimeoutError) as error:
            failures.append(error)
        return bool(transports)

    try:
        wait_until(attempt, condition="the guest's ssh server", timeout_s=limit_s, interval_s=0.2)
    except WaitTimeoutError as error:
        raise _unreachable(endpoint, name, failures[-1]) from error
    return transports[0]


def _unreachable(endpoint: Endpoint, name: str, failure: Exception) -> GuestUnreachableError:
    message = f"the guest cannot be reached by ssh at {endpoint.address}:{endpoint.ssh_port}"
    return GuestUnreachableError(message, hint=command_for("status", name), details=str(failure))


def read_key(paths: MachinePaths) -> "PKey":
    """Return the key that logs in. Raises B2dError naming a missing or damaged file."""
    from paramiko import Ed25519Key, SSHException

    path, restart = paths.ssh_key, command_for("restart", paths.folder.name)
    try:
        return Ed25519Key.from_private_key_file(str(path))
    except FileNotFoundError as error:
        raise B2dError(f"{path}, the key of the guest, is missing", hint=restart) from error
    except (OSError, SSHException, *DAMAGE) as error:
        raise B2dError(f"{path} is not a usable key: {error}", hint=f"move it away, then run: {restart}") from error


def _attempt(connection: socket.socket, log_in: "Login", greeting_s: float) -> "Transport":
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
        log_in(transport)
    except BaseException:
        transport.close()
        transport.packetizer.complete_handshake()  # stops its timer, a thread that would wait for a minute
        raise
    return transport


def _transport(connection: socket.socket) -> "Transport":
    """Return a paramiko transport for an untrusted server."""
    from paramiko import SSHException, Transport
    from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA

    handlers: dict[int, Any] = dict(Transport._channel_handler_table)  # type: ignore[attr-defined]
    guarded = {kind: _limit_unread(handlers[kind]) for kind in (MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA)}

    class CheckedTransport(Transport):
        """A transport that reports any error in what the server sends as SSHException."""

        _channel_handler_table: ClassVar[dict[int, Any]] = {**handlers, **guarded}

        def get_exception(self) -> Exception | None:
            """Return the thread's error as an SSHException."""
            error: Exception | None = super().get_exception()
            if error is None or isinstance(error, SSHException | EOFError | OSError):
                return error
            return SSHException(f"it sent invalid data: {error!r}")

    return CheckedTransport(_BoundedSocket(connection))  # type: ignore[arg-type]


def _limit_unread(feed: Callable[["Channel", object], None]) -> Callable[["Channel", object], None]:
    """Wrap a handler so that data beyond the window, which paramiko accepts, cannot fill the memory."""
    from paramiko import SSHException

    def checked(channel: Any, message: object) -> None:
        if len(channel.in_buffer) + len(channel.in_stderr_buffer) > UNREAD_LIMIT:
            raise SSHException("it sends more than it is allowed to")
        feed(channel, message)

    return checked


class _BoundedSocket:
    """A socket that limits packets: paramiko allocates the size in a packet's header at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        """Return the socket's attribute."""
        return getattr(self._connection, name)

    def recv(self, size: int) -> bytes:
        """Return received bytes. Raises SSHException for too large a packet."""
        from paramiko import SSHException

        if size > PACKET_LIMIT:
            raise SSHException(f"a packet of {size} bytes")
        return self._connection.recv(size)


def check_host_key(endpoint: Endpoint, paths: MachinePaths, key: "PKey") -> None:
    """Raise B2dError unless the host key is one of this machine's guest."""
    if not is_known(paths, key):
        hint = command_for("restart", paths.folder.name)  # a guest with b2d's image gets its key with each boot
        if paths.pinned_host_key.exists():
            hint = f"if its guest made a new key: {shlex.join(['rm', str(paths.pinned_host_key)])} && {hint}"
        message = f"the server at {endpoint.address}:{endpoint.ssh_port} is not this machine: its host key differs"
        raise B2dError(message, hint=hint)


def _disable_logging() -> None:
    """Disable paramiko's log on stderr: failures are reported by errors."""
    logger = logging.getLogger("paramiko")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def authenticate(transport: "Transport", attempt: Callable[[], object]) -> None:
    """Raise AuthenticationException for a refusal only: paramiko raises it for a timeout too."""
    from paramiko import AuthenticationException, SSHException

    start = time.monotonic()
    try:
        attempt()
    except AuthenticationException as error:
        if not transport.is_active() or time.monotonic() - start >= HANDSHAKE_S:
            raise SSHException(str(error)) from error
        raise
