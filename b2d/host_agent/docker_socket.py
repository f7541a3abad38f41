"""A relay of connections from this host into a machine, for all of them in one thread."""

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
from b2d.host_agent.tls_stream import CHUNK_SIZE, PlainText, Wire

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A listening socket, with the clients that it admits, their encoding, and the target of its connections."""

    listener: socket.socket
    reach: Callable[[], StreamEnd]
    admits: Callable[[socket.socket], bool] = lambda _: True
    wire: Callable[[], Wire] = PlainText
    dials: bool = False  # reach() may take a while, and the guest's side speaks first


@contextmanager
def relay_connections(entrances: Sequence[ListeningSocket]) -> Iterator[None]:
    """Relay the connections of all listening sockets during the block."""
    control, wake = socket.socketpair()
    with control, wake:
        thread = threading.Thread(target=Relay(entrances, control, wake).run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            wake.shutdown(socket.SHUT_WR)
            thread.join()


class _Connection:
    """A client and its connection into the machine, which is opened at the client's first bytes."""

    def __init__(self, client: socket.socket, entrance: ListeningSocket) -> None:
        client.setblocking(False)
        self.client = StreamEnd(client, entrance.wire())
        self.engine: StreamEnd | None = None
        self._entrance = entrance
        self._dialing = entrance.dials

    def ends(self) -> list[StreamEnd]:
        return [self.client] if self.engine is None else [self.client, self.engine]

    def attach(self, engine: StreamEnd) -> None:
        """Use the connection that was dialed."""
        self.engine, self._dialing = engine, False

    def step(self, end: StreamEnd, events: int) -> None:
        """Process the events of one end. Raises OSError."""
        if events & WRITE:
            end.connected = True
            end.flush()
        if events & READ:
            plaintext = end.receive()
            if plaintext and self.engine is None:
                self.engine = self._entrance.reach()
            other = self.engine if end is self.client else self.client
            if other is not None:
                if plaintext:
                    other.send(plaintext)
                if end.at_eof:
                    other.send_eof()

    def events_for(self, end: StreamEnd) -> int:
        """Return the events that one end waits for."""
        is_full = any(other.is_full() for other in self.ends() if other is not end)
        return (0 if end.at_eof or is_full or self._dialing else READ) | (WRITE if end.unsent else 0)

    def is_over(self) -> bool:
        """Tell whether both directions have ended."""
        return all(end.at_eof and not end.unsent for end in self.ends())

    def close(self) -> None:
        with suppress(OSError):
            self.client.flush()  # the engine's last bytes before it failed
        for end in self.ends():
            end.socket.close()


class Relay:
    """A relay of all connections at all entrances, until the other end of `control` hangs up.

    `wake` is that other end: threads that dial send a byte when they have finished.
    """

    def __init__(self, entrances: Sequence[ListeningSocket], control: socket.socket, wake: socket.socket) -> None:
        """Prepare the selector."""
        self._entrances = entrances
        self._control = control
        self._wake = wake
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._dialed: queue.Queue[tuple[_Connection, StreamEnd | None]] = queue.Queue()
        self._is_listening = False

    def run(self) -> None:
        """Relay without using the CPU while idle. However it ends, later clients are refused and none hangs."""
        with self._selector:
            try:
                for entrance in self._entrances:
                    entrance.listener.setblocking(False)
                self._selector.register(self._control, READ, None)
                self._set_listening(True)
                while self._run_once():
                    pass
            finally:
                for entrance in self._entrances:
                    entrance.listener.close()
                for connection in self._connections:
                    connection.close()

    def _run_once(self) -> bool:
        """Process the next events; return False at the end."""
        for key, events in self._selector.select():
            if key.fileobj is self._control:
                if not self._control.recv(CHUNK_SIZE):
                    return False
                self._join_dialed()
            elif isinstance(key.data, ListeningSocket):
                self._accept(key.data)
            else:
                connection, end = key.data
                if connection in self._connections:  # an earlier event may have ended it
                    self._serve(connection, end, events)
        return True

    def _accept(self, entrance: ListeningSocket) -> None:
        try:
            client, _ = entrance.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            self._set_listening(False)  # until a connection ends
            return
        if not entrance.admits(client):
            client.close()
            return
        connection = _Connection(client, entrance)
        self._connections.add(connection)
        self._watch(connection)
        if entrance.dials:
            threading.Thread(target=self._dial, args=(connection, entrance), daemon=True).start()

    def _dial(self, connection: _Connection, entrance: ListeningSocket) -> None:
        try:
            engine: StreamEnd | None = entrance.reach()
        except (OSError, B2dError):
            engine = None
        self._dialed.put((connection, engine))
        with suppress(OSError):  # the relay has ended
            self._wake.send(b"!")

    def _join_dialed(self) -> None:
        while not self._dialed.empty():
            connection, engine = self._dialed.get()
            if engine is None:
                self._drop(connection)
            else:
                connection.attach(engine)
                self._watch(connection)

    def _serve(self, connection: _Connection, end: StreamEnd, events: int) -> None:
        try:
            connection.step(end, events)
            over = connection.is_over()
        except OSError:
            over = True
        if over:
            self._drop(connection)
        else:
            self._watch(connection)

    def _drop(self, connection: _Connection) -> None:
        for end in connection.ends():
            self._set_events(end, 0, None)
        self._connections.discard(connection)
        connection.close()
        self._set_listening(True)

    def _watch(self, connection: _Connection) -> None:
        for end in connection.ends():
            self._set_events(end, connection.events_for(end), (connection, end))

    def _set_events(self, end: StreamEnd, events: int, data: tuple[_Connection, StreamEnd] | None) -> None:
        if events == end.watched:
            return
        if not end.watched:
            self._selector.register(end.socket, events, data)
        elif events:
            self._selector.modify(end.socket, events, data)
        else:  # also of a socket that hung up: select would report it for ever
            self._selector.unregister(end.socket)
        end.watched = events

    def _set_listening(self, is_wanted: bool) -> None:
        if is_wanted != self._is_listening:
            self._is_listening = is_wanted
            for entrance in self._entrances:
                if is_wanted:
                    self._selector.register(entrance.listener, READ, entrance)
                else:
                    self._selector.unregister(entrance.listener)
