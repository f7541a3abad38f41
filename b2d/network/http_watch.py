"""Watch a question to a web server from a thread of its own: a server can keep its asker waiting in many ways.

A time-out of a socket is for the next byte. So a server that sends one now and then, of a greeting, a header, an
interim answer (RFC 9110, 15.2) or a trailer (RFC 9112, 7.1.2), is waited for without an end, out of sight of who reads
the body. Here the connection is shut down when its time is over, and what waits for it ends at once.
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
    """When to give a server up: silent for so long, or slower than this over so long."""

    connect_s: float = 10.0
    read_s: float = 30.0  # between two pieces of what it says
    window_s: float = 60.0
    window_bytes: int = 64 << 10

    @property
    def head_s(self) -> float:
        """Until the body begins, whatever comes before."""
        return self.connect_s + 2 * self.read_s


class TransferWatch:
    """One question. `late` says why it was ended, "" while it was not."""

    def __init__(self, patience: TransferTimeouts, head_s: float) -> None:
        self.late = ""
        self._patience = patience
        self._head_s = head_s
        self._sockets: list[socket.socket] = []
        self._closing: list[Callable[[], None]] = []
        self._came: Callable[[], int] = lambda: 0
        self._begun, self._over = threading.Event(), threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch in the block."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._begun.set()
            thread.join()
            for close in (*self._closing, *(one.close for one in self._sockets)):
                close()

    def add(self, one: socket.socket, close: Callable[[], None]) -> None:
        """Watch a new connection, by a socket of our own: TLS takes the other's descriptor away.

        `close` ends it after the question: urllib3 leaves open what it might use again.
        """
        self._sockets.append(one.dup())
        self._closing.append(close)

    def begin_body(self, came: Callable[[], int]) -> None:
        """The answer's head is here; `came` tells how many bytes of its body."""
        self._came = came
        self._begun.set()

    def has_begun(self) -> bool:
        """True when the head came in time."""
        return self._begun.is_set()

    def _run(self) -> None:
        if not self._begun.wait(self._head_s):
            self._cut("takes too long to answer")
            return
        had = self._came()
        while not self._over.wait(self._patience.window_s):
            came = self._came()
            if came - had < self._patience.window_bytes:
                self._cut(f"comes too slowly: {came - had} bytes in {self._patience.window_s:.0f} s")
                return
            had = came

    def _cut(self, late: str) -> None:
        self.late = late
        for one in list(self._sockets):
            with suppress(OSError):  # it has hung up
                one.shutdown(socket.SHUT_RDWR)


def watched_session(watch: TransferWatch) -> "requests.Session":
    """Return one whose connections are watched, and which does not care for redirects."""
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
            """None: to follow one, requests reads the whole body of the answer before, however long it is."""

    made = Session()
    for scheme in pools:
        made.mount(f"{scheme}://", Adapter())
    return made


def _watched_pools(watch: TransferWatch) -> "dict[str, type[HTTPConnectionPool]]":
    """What urllib3 makes connections with, by scheme."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            watch.add(one := super()._new_conn(), self.close)
            return one

    class Secured(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            watch.add(one := super()._new_conn(), self.close)
            return one

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecuredPool(HTTPSConnectionPool):
        ConnectionCls = Secured

    return {"http": PlainPool, "https": SecuredPool}
