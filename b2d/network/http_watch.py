"""Limit the duration of an HTTP request from a separate thread.

A socket's timeout counts from byte to byte. A server that sends one now and then, of a greeting, a header, an interim
response (RFC 9110, 15.2) or a trailer (RFC 9112, 7.1.2), can hold a client for ever, unseen by the reader of the body.
Here the connection is shut down when its time is over, and any wait for it ends at once.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests
    from urllib3 import HTTPConnectionPool


@dataclass(frozen=True, slots=True)
class TransferTimeouts:
    """The limits of a transfer: the longest silence, and the lowest rate over a window."""

    connect_s: float = 10.0
    read_s: float = 30.0  # between two chunks
    window_s: float = 60.0
    window_bytes: int = 64 << 10

    @property
    def head_s(self) -> float:
        """The time until the body begins, in seconds."""
        return self.connect_s + 2 * self.read_s


class TransferWatch:
    """The watch over a request; `late` is the reason for which it was ended, "" for none."""

    def __init__(self, timeouts: TransferTimeouts, head_s: float) -> None:
        """Create a watch that allows `head_s` seconds until the body begins."""
        self.late = ""
        self._timeouts = timeouts
        self._head_s = head_s
        self._sockets: list[socket.socket] = []
        self._closing: list[Callable[[], None]] = []
        self._received: Callable[[], int] = lambda: 0
        self._begun, self._ended = threading.Event(), threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch during the block."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._begun.set()
            thread.join()
            for close in (*self._closing, *(connection.close for connection in self._sockets)):
                close()

    def add(self, connection: socket.socket, close: Callable[[], None]) -> None:
        """Watch a new connection, by a duplicate socket: TLS takes the descriptor of the original away.

        `close` ends it after the request: urllib3 leaves open what it might reuse.
        """
        self._sockets.append(connection.dup())
        self._closing.append(close)

    def begin_body(self, received: Callable[[], int]) -> None:
        """Start measuring the body; `received` returns the number of its bytes so far."""
        self._received = received
        self._begun.set()

    def has_begun(self) -> bool:
        """Return whether the response's head came in time."""
        return self._begun.is_set()

    def _run(self) -> None:
        if not self._begun.wait(self._head_s):
            self._cut("takes too long to respond")
            return
        before = self._received()
        while not self._ended.wait(self._timeouts.window_s):
            received = self._received()
            if received - before < self._timeouts.window_bytes:
                self._cut(f"sends too slowly: {received - before} bytes in {self._timeouts.window_s:.0f} s")
                return
            before = received

    def _cut(self, late: str) -> None:
        self.late = late
        for connection in list(self._sockets):
            with suppress(OSError):  # the server has closed it
                connection.shutdown(socket.SHUT_RDWR)


def watched_session(watch: TransferWatch) -> "requests.Session":
    """Return a session whose connections are watched, and which does not follow redirects."""
    import requests
    from requests.adapters import HTTPAdapter

    pools = _watched_pools(watch)

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*args, **options)
            manager.pool_classes_by_scheme = pools
            return manager

    class Session(requests.Session):
        def get_redirect_target(self, _: requests.Response) -> None:
            """Return None: to follow a redirect, requests first reads the response's whole body."""

    session = Session()
    for scheme in pools:
        session.mount(f"{scheme}://", Adapter())
    return session


def _watched_pools(watch: TransferWatch) -> "dict[str, type[HTTPConnectionPool]]":
    """Return the connection pools for urllib3, by scheme."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            watch.add(connection := super()._new_conn(), self.close)
            return connection

    class Secured(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            watch.add(connection := super()._new_conn(), self.close)
            return connection

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecuredPool(HTTPSConnectionPool):
        ConnectionCls = Secured

    return {"http": PlainPool, "https": SecuredPool}
