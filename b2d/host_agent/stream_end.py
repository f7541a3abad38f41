"""One side of a relayed connection, and factories of the sides that lead into a machine."""

import socket
from collections.abc import Callable
from contextlib import suppress

from b2d.docker.client import DockerApi
from b2d.host_agent.tls_stream import CHUNK_SIZE, PlainText, TlsClient, Wire

MAX_BUFFER = 1 << 20  # bytes that wait for a slow reader before no more are read for it


class StreamEnd:
    """One side: its socket and its encoding."""

    def __init__(self, connection: socket.socket, wire: Wire, *, connected: bool = True) -> None:
        """Wrap a non-blocking socket; without `connected` nothing is sent until it is."""
        self.socket = connection
        self.connected = connected  # False while connecting: nothing can be sent yet
        self.unsent = bytearray()
        self.at_eof = False  # the peer sends no more
        self.watched = 0
        self._wire = wire
        self._eof_sent = False

    def is_full(self) -> bool:
        """Tell whether enough bytes wait to be sent."""
        return len(self.unsent) + self._wire.pending() >= MAX_BUFFER

    def receive(self) -> bytes:
        """Return the plaintext that can be read now. Raises OSError."""
        try:
            raw = self.socket.recv(CHUNK_SIZE)
        except BlockingIOError:
            return b""
        decoded = self._wire.decode(raw)
        self.at_eof = decoded.eof
        self.unsent += decoded.to_send
        return decoded.plaintext

    def send(self, plaintext: bytes) -> None:
        """Queue plaintext, and send as much as possible at once. Raises OSError."""
        self.unsent += self._wire.encode(plaintext)
        self.flush()

    def send_eof(self) -> None:
        """Send the end of the plaintext."""
        if not self._eof_sent:
            self._eof_sent = True
            self.unsent += self._wire.encode_eof()
            self.flush()

    def flush(self) -> None:
        """Send as much of the queue as possible. Raises OSError."""
        with suppress(BlockingIOError):
            while self.unsent and self.connected:
                del self.unsent[: self.socket.send(self.unsent)]
            if self._eof_sent and self.connected and self._wire.half_closes:
                self.socket.shutdown(socket.SHUT_WR)


def docker_connector(engine: DockerApi) -> Callable[[], StreamEnd]:
    """Return a factory of connections to that Docker. Raises OSError for certificates that cannot be read."""
    tls = engine.tls()
    return lambda: StreamEnd(
        _start_connection(engine), PlainText() if tls is None else TlsClient(tls, engine.address), connected=False
    )


def guest_connector(dial: Callable[[], socket.socket]) -> Callable[[], StreamEnd]:
    """Return a factory of connections by `dial`, which may take a while."""

    def reach() -> StreamEnd:
        connection = dial()
        connection.setblocking(False)
        return StreamEnd(connection, PlainText())

    return reach


def _start_connection(engine: DockerApi) -> socket.socket:
    """Return a socket that is connecting; a failure shows when something is sent."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect_ex((engine.address, engine.port))
    return connection
