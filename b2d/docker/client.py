"""Docker's API over HTTP, asked without a proxy, with the machine's client certificate where there is one.

The guest is not trusted: an answer, and a line of events, has a largest size, and each answer an end in time.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from b2d.formats import json_text

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse
    from ssl import SSLContext

Answer = TypeVar("Answer")

ANSWER_LIMIT = 4 << 20  # bytes; a container takes about two kilobytes of a list
EVENT_LIMIT = 1 << 20  # bytes of a line; it holds the container's labels
UNPARSABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError)  # what reading it raises
TIMEOUT_FACTOR = 3  # of the wait that a caller names: connecting, greeting, answering


class DockerUnavailableError(Exception):
    """Nobody answers, or not as Docker does."""


@dataclass(frozen=True, slots=True)
class DockerApi:
    """A Docker at an address; without `certs` it speaks without TLS."""

    address: str
    port: int
    certs: Path | None

    def ask(self, path: str, timeout_s: float, read: "Callable[[HTTPResponse], Answer]") -> "Answer":
        """What `read` makes of the answer. Raises DockerUnavailableError where there is none, or it cannot be read.

        Never takes longer than `timeout_s` for each of connecting, greeting and answering, however the bytes trickle.
        """
        from http.client import HTTPException

        try:
            connection = self._connection(timeout_s)
            try:
                with _connected(connection, TIMEOUT_FACTOR * timeout_s):
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    if answer.status != 200:
                        raise DockerUnavailableError(f"Docker answers {answer.status}")
                    return read(answer)
            finally:
                connection.close()
        # TLS errors are OSErrors; the others: it is not Docker's
        except (OSError, HTTPException, *UNPARSABLE) as error:
            raise DockerUnavailableError(str(error)) from error

    def containers(self, timeout_s: float) -> list[dict[str, Any]]:
        """Those that run, as /containers/json has them. Raises DockerUnavailableError."""
        found = self.ask("/containers/json", timeout_s, document)
        if not isinstance(found, list):
            raise DockerUnavailableError("Docker answers with no list of containers")
        return [one for one in found if isinstance(one, dict)]

    def changes(self, connect_s: float) -> Iterator[None]:
        """Once when it listens, then each time when a container starts or ends.

        Raises DockerUnavailableError at the end.
        """
        from http.client import HTTPException
        from urllib.parse import quote

        wanted = '{"type":["container"],"event":["start","die"]}'
        try:
            connection = self._connection(connect_s)
            try:
                with _connected(connection, TIMEOUT_FACTOR * connect_s) as line:
                    connection.request("GET", f"/events?filters={quote(wanted)}")
                    answer = connection.getresponse()
                if answer.status != 200:
                    raise DockerUnavailableError(f"Docker answers {answer.status}")
                line.settimeout(None)  # an idle Docker says nothing for days
                yield
                while event := answer.readline(EVENT_LIMIT):
                    if len(event) == EVENT_LIMIT:
                        raise DockerUnavailableError("Docker tells of an event without an end")
                    yield
            finally:
                connection.close()
        except (OSError, HTTPException, *UNPARSABLE) as error:
            raise DockerUnavailableError(str(error)) from error
        raise DockerUnavailableError("Docker hung up")

    def _connection(self, timeout_s: float | None) -> "HTTPConnection":
        """One that is made with the first question. Raises OSError for certificates that cannot be read."""
        from http.client import HTTPConnection

        context = self.tls()
        if context is None:
            return HTTPConnection(self.address, self.port, timeout=timeout_s)

        tls: SSLContext = context

        class Secured(HTTPConnection):
            """http.client's own for TLS cannot be ended while it greets: it has no socket before."""

            def connect(self) -> None:
                super().connect()
                self.sock = tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
                self.sock.do_handshake()

        return Secured(self.address, self.port, timeout=timeout_s)

    def tls(self) -> "SSLContext | None":
        """What it is spoken to with; None for without. Raises OSError for certificates that cannot be read."""
        import ssl

        if self.certs is None:
            return None
        context = ssl.create_default_context(cafile=str(self.certs / "ca.pem"))
        context.load_cert_chain(self.certs / "cert.pem", self.certs / "key.pem")
        return context


def body(answer: "HTTPResponse", limit: int = ANSWER_LIMIT) -> bytes:
    """Return the whole body of an answer. Raises DockerUnavailableError where it has more than `limit` bytes."""
    content = answer.read(limit + 1)
    if len(content) > limit:
        raise DockerUnavailableError(f"Docker's answer is larger than {limit} bytes")
    return content


def document(answer: "HTTPResponse") -> Any:
    """Return the JSON that an answer holds. Raises DockerUnavailableError where it is too large, and ValueError."""
    return json_text.parse(body(answer))


@contextmanager
def _connected(connection: "HTTPConnection", limit_s: float) -> "Iterator[socket.socket]":
    """Connect, and shut the connection down when that and the block take longer than `limit_s` together.

    Whoever reads from it then finds its end. Raises OSError, and DockerUnavailableError where it was so.
    """
    late = threading.Event()
    line: socket.socket | None = None

    def end() -> None:
        late.set()
        for one in (line, connection.sock):
            if one is not None:
                with suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)  # not TLS's own, which takes the session away

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        connection.connect()
        line = connection.sock  # with the answer it is no longer the connection's
        yield line
    finally:
        timer.cancel()
    if late.is_set():
        raise DockerUnavailableError(f"Docker did not answer within {limit_s:.0f} s")
