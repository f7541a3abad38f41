"""A machine's Docker behind a Unix socket of this host: bytes both ways, for all connections in one thread."""

import errno
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from b2d import sockets
from b2d.docker_api import DockerApi
from b2d.wire import PIECE, Clear, Tls, Wire

ENOUGH = 1 << 20  # bytes that wait for somebody slow, before no more is taken for them
CROWDED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@contextmanager
def served(path: Path, engine: DockerApi) -> Iterator[None]:
    """In the block `path` leads to that Docker; afterwards it is gone. Raises OSError where there can be no socket."""
    tls = engine.tls()

    def reach() -> "_End":
        return _End(_begun(engine), Clear() if tls is None else Tls(tls, engine.address), connected=False)

    over, tell = socket.socketpair()
    with over, tell, sockets.listen(path) as listener:
        thread = threading.Thread(target=Relay(listener, over, reach).run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            tell.close()
            thread.join()


def _begun(engine: DockerApi) -> socket.socket:
    """A connection that is on its way; what becomes of it is seen when something is sent."""
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.connect_ex((engine.address, engine.port))
    return one


class _End:
    """One side of a connection that is passed on."""

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
        return len(self.unsent) + self._wire.held() >= ENOUGH

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


class _Pair:
    """A client with its connection to the engine, which is made when the client first says something."""

    def __init__(self, client: socket.socket, reach: Callable[[], _End]) -> None:
        client.setblocking(False)
        self.client = _End(client, Clear())
        self.engine: _End | None = None
        self._reach = reach

    def ends(self) -> list[_End]:
        return [self.client] if self.engine is None else [self.client, self.engine]

    def step(self, end: _End, events: int) -> None:
        """Do what can be done at one end. Raises OSError."""
        if events & WRITE:
            end.connected = True
            end.flush()
        if events & READ:
            meant = end.hear()
            if meant and self.engine is None:
                self.engine = self._reach()
            other = self.engine if end is self.client else self.client
            if other is not None:
                if meant:
                    other.tell(meant)
                if end.silent:
                    other.end()

    def wanted(self, end: _End) -> int:
        """What it waits for at one end."""
        full = any(other.full() for other in self.ends() if other is not end)
        return (0 if end.silent or full else READ) | (WRITE if end.unsent else 0)

    def over(self) -> bool:
        """True when nobody says anything any more."""
        return all(end.silent and not end.unsent for end in self.ends())

    def close(self) -> None:
        with suppress(OSError):
            self.client.flush()  # what the engine said before it failed
        for end in self.ends():
            end.socket.close()


class Relay:
    """Takes connections at `listener`, and passes each on to an end that `reach` makes, until `over` hangs up."""

    def __init__(self, listener: socket.socket, over: socket.socket, reach: Callable[[], _End]) -> None:
        self._listener = listener
        self._over = over
        self._reach = reach
        self._selector = selectors.DefaultSelector()
        self._pairs: set[_Pair] = set()
        self._listens = False

    def run(self) -> None:
        """Waits without using the CPU. However it ends, whoever connects afterwards is refused and nobody hangs."""
        self._listener.setblocking(False)
        with self._listener, self._selector:
            try:
                self._selector.register(self._over, READ, None)
                self._listen(True)
                while self._turn():
                    pass
            finally:
                for pair in self._pairs:
                    pair.close()

    def _turn(self) -> bool:
        """Whatever happens next; False at the end."""
        for key, events in self._selector.select():
            if key.fileobj is self._over:
                return False
            if key.fileobj is self._listener:
                self._accept()
            else:
                pair, end = key.data
                if pair in self._pairs:  # it may have ended a moment ago
                    self._serve(pair, end, events)
        return True

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in CROWDED:
                raise
            self._listen(False)  # until somebody has gone
            return
        pair = _Pair(client, self._reach)
        self._pairs.add(pair)
        self._watch(pair)

    def _serve(self, pair: _Pair, end: _End, events: int) -> None:
        try:
            pair.step(end, events)
            over = pair.over()
        except OSError:
            over = True
        if not over:
            self._watch(pair)
            return
        for one in pair.ends():
            self._wait_for(one, 0, None)
        self._pairs.remove(pair)
        pair.close()
        self._listen(True)

    def _watch(self, pair: _Pair) -> None:
        for end in pair.ends():
            self._wait_for(end, pair.wanted(end), (pair, end))

    def _wait_for(self, end: _End, events: int, data: tuple[_Pair, _End] | None) -> None:
        if events == end.watched:
            return
        if not end.watched:
            self._selector.register(end.socket, events, data)
        elif events:
            self._selector.modify(end.socket, events, data)
        else:  # also of one that hung up: it would be told of for ever
            self._selector.unregister(end.socket)
        end.watched = events

    def _listen(self, wanted: bool) -> None:
        if wanted != self._listens:
            self._listens = wanted
            if wanted:
                self._selector.register(self._listener, READ, None)
            else:
                self._selector.unregister(self._listener)
