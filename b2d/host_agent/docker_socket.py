"""Connections of this host that lead into a machine: bytes both ways, for all of them in one thread."""

import errno
import queue
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from b2d.errors import B2dError
from b2d.host_agent.stream_end import StreamEnd
from b2d.host_agent.tls_stream import PIECE, PlainText, Wire

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """Where connections come in, whose are taken, how their bytes are heard, and what they lead to."""

    listener: socket.socket
    reach: Callable[[], StreamEnd]
    admits: Callable[[socket.socket], bool] = lambda _: True
    wire: Callable[[], Wire] = PlainText
    dials: bool = False  # reach() may take a while, and the other side speaks first


@contextmanager
def relaying(entrances: Sequence[ListeningSocket]) -> Iterator[None]:
    """In the block what comes in at any of them is carried on."""
    over, tell = socket.socketpair()
    with over, tell:
        thread = threading.Thread(target=Relay(entrances, over, tell).run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            tell.shutdown(socket.SHUT_WR)
            thread.join()


class _Connection:
    """A client with its connection into the machine, which is made when the client first says something."""

    def __init__(self, client: socket.socket, entrance: ListeningSocket) -> None:
        client.setblocking(False)
        self.client = StreamEnd(client, entrance.wire())
        self.engine: StreamEnd | None = None
        self._entrance = entrance
        self._dialing = entrance.dials

    def ends(self) -> list[StreamEnd]:
        return [self.client] if self.engine is None else [self.client, self.engine]

    def reached(self, engine: StreamEnd) -> None:
        """Take the connection that was dialed."""
        self.engine, self._dialing = engine, False

    def step(self, end: StreamEnd, events: int) -> None:
        """Do what can be done at one end. Raises OSError."""
        if events & WRITE:
            end.connected = True
            end.flush()
        if events & READ:
            meant = end.hear()
            if meant and self.engine is None:
                self.engine = self._entrance.reach()
            other = self.engine if end is self.client else self.client
            if other is not None:
                if meant:
                    other.tell(meant)
                if end.silent:
                    other.end()

    def wanted(self, end: StreamEnd) -> int:
        """What it waits for at one end."""
        full = any(other.full() for other in self.ends() if other is not end)
        return (0 if end.silent or full or self._dialing else READ) | (WRITE if end.unsent else 0)

    def over(self) -> bool:
        """True when nobody says anything any more."""
        return all(end.silent and not end.unsent for end in self.ends())

    def close(self) -> None:
        with suppress(OSError):
            self.client.flush()  # what the engine said before it failed
        for end in self.ends():
            end.socket.close()


class Relay:
    """Takes connections at all entrances, and carries each on, until the other end of `over` hangs up.

    `wake` is that other end: what is dialed in other threads is told by a byte.
    """

    def __init__(self, entrances: Sequence[ListeningSocket], over: socket.socket, wake: socket.socket) -> None:
        self._entrances = entrances
        self._over = over
        self._wake = wake
        self._selector = selectors.DefaultSelector()
        self._pairs: set[_Connection] = set()
        self._dialed: queue.Queue[tuple[_Connection, StreamEnd | None]] = queue.Queue()
        self._listens = False

    def run(self) -> None:
        """Waits without using the CPU. However it ends, whoever connects afterwards is refused and nobody hangs."""
        with self._selector:
            try:
                for entrance in self._entrances:
                    entrance.listener.setblocking(False)
                self._selector.register(self._over, READ, None)
                self._listen(True)
                while self._turn():
                    pass
            finally:
                for entrance in self._entrances:
                    entrance.listener.close()
                for pair in self._pairs:
                    pair.close()

    def _turn(self) -> bool:
        """Whatever happens next; False at the end."""
        for key, events in self._selector.select():
            if key.fileobj is self._over:
                if not self._over.recv(PIECE):
                    return False
                self._join_dialed()
            elif isinstance(key.data, ListeningSocket):
                self._accept(key.data)
            else:
                pair, end = key.data
                if pair in self._pairs:  # it may have ended a moment ago
                    self._serve(pair, end, events)
        return True

    def _accept(self, entrance: ListeningSocket) -> None:
        try:
            client, _ = entrance.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            self._listen(False)  # until somebody has gone
            return
        if not entrance.admits(client):
            client.close()
            return
        pair = _Connection(client, entrance)
        self._pairs.add(pair)
        self._watch(pair)
        if entrance.dials:
            threading.Thread(target=self._dial, args=(pair, entrance), daemon=True).start()

    def _dial(self, pair: _Connection, entrance: ListeningSocket) -> None:
        try:
            reached: StreamEnd | None = entrance.reach()
        except (OSError, B2dError):
            reached = None
        self._dialed.put((pair, reached))
        with suppress(OSError):  # it is over
            self._wake.send(b"!")

    def _join_dialed(self) -> None:
        while not self._dialed.empty():
            pair, engine = self._dialed.get()
            if engine is None:
                self._drop(pair)
            else:
                pair.reached(engine)
                self._watch(pair)

    def _serve(self, pair: _Connection, end: StreamEnd, events: int) -> None:
        try:
            pair.step(end, events)
            over = pair.over()
        except OSError:
            over = True
        if over:
            self._drop(pair)
        else:
            self._watch(pair)

    def _drop(self, pair: _Connection) -> None:
        for end in pair.ends():
            self._wait_for(end, 0, None)
        self._pairs.discard(pair)
        pair.close()
        self._listen(True)

    def _watch(self, pair: _Connection) -> None:
        for end in pair.ends():
            self._wait_for(end, pair.wanted(end), (pair, end))

    def _wait_for(self, end: StreamEnd, events: int, data: tuple[_Connection, StreamEnd] | None) -> None:
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
            for entrance in self._entrances:
                if wanted:
                    self._selector.register(entrance.listener, READ, entrance)
                else:
                    self._selector.unregister(entrance.listener)
