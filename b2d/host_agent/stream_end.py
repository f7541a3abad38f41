"""One side of a connection that the agent carries on, and what makes such sides that lead into a machine."""

import socket
from collections.abc import Callable
from contextlib import suppress

from b2d.docker.client import DockerApi
from b2d.host_agent.tls_stream import PIECE, PlainText, TlsClient, Wire

MAX_BUFFER = 1 << 20  # bytes that wait for somebody slow, before no more is taken for them


class StreamEnd:
    """One side: its socket, and how its bytes are meant."""

    def __init__(self, one: socket.socket, wire: Wire, *, connected: bool = True) -> None:
        self.socket = one
        self.connected = connected  # else that is not to be sent to yet
        self.unsent = bytearray()
        self.silent = False  # it says no more
        self.watched = 0
        self._wire = wire
        self._told_all = False

    def full(self) -> bool:
        """True when enough waits for it."""
        return len(self.unsent) + self._wire.held() >= MAX_BUFFER

    def hear(self) -> bytes:
        """What it says now. Raises OSError."""
        try:
            raw = self.socket.recv(PIECE)
        except BlockingIOError:
            return b""
        heard = self._wire.hear(raw)
        self.silent = heard.over
        self.unsent += heard.sent
        return heard.meant

    def tell(self, meant: bytes) -> None:
        """Send it, at once as far as that can be. Raises OSError."""
        self.unsent += self._wire.tell(meant)
        self.flush()

    def end(self) -> None:
        """Nothing more comes for it."""
        if not self._told_all:
            self._told_all = True
            self.unsent += self._wire.end()
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as that can be. Raises OSError."""
        with suppress(BlockingIOError):
            while self.unsent and self.connected:
                del self.unsent[: self.socket.send(self.unsent)]
            if self._told_all and self.connected and self._wire.shuts:
                self.socket.shutdown(socket.SHUT_WR)


def to_docker(engine: DockerApi) -> Callable[[], StreamEnd]:
    """What makes connections to that Docker. Raises OSError for certificates that cannot be read."""
    tls = engine.tls()
    return lambda: StreamEnd(
        _begun(engine), PlainText() if tls is None else TlsClient(tls, engine.address), connected=False
    )


def to_guest(dial: Callable[[], socket.socket]) -> Callable[[], StreamEnd]:
    """What makes connections by `dial`, which may take a while."""

    def reach() -> StreamEnd:
        connection = dial()
        connection.setblocking(False)
        return StreamEnd(connection, PlainText())

    return reach


def _begun(engine: DockerApi) -> socket.socket:
    """A connection that is on its way; what becomes of it is seen when something is sent."""
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.connect_ex((engine.address, engine.port))
    return one
