"""A client of Docker's API over HTTP, without a proxy, and with the machine's client certificate if there is one.

The guest is not trusted: responses and events have a maximum size, and each response a deadline.
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

Result = TypeVar("Result")

ANSWER_LIMIT = 4 << 20  # bytes; a container takes about 2 KiB of a list
EVENT_LIMIT = 1 << 20  # bytes of a line, which includes the container's labels
# what parsing a foreign document raises
UNPARSABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
STRICT_API = (1, 44)  # of Docker 25: docker clients since 29 refuse an older one (Docker's release notes, 29.0.0)
TIMEOUT_FACTOR = 3  # of the caller's timeout


class DockerUnavailableError(Exception):
    """There is no response, or it is not Docker's."""


@dataclass(frozen=True, slots=True)
class DockerApi:
    """A Docker API at an address; `certs` is the folder of the client certificate, None without TLS."""

    address: str
    port: int
    certs: Path | None

    def get(self, path: str, timeout_s: float, read: "Callable[[HTTPResponse], Result]") -> "Result":
        """Return what `read` makes of the response. Raises DockerUnavailableError without a valid one.

        Connection, TLS handshake and response each take `timeout_s` at most, however slowly the bytes arrive.
        """
        from http.client import HTTPException

        try:
            connection = self._connection(timeout_s)
            try:
                with _connected(connection, TIMEOUT_FACTOR * timeout_s):
                    connection.request("GET", path)
                    response = connection.getresponse()
                    if response.status != 200:
                        raise DockerUnavailableError(f"Docker returned HTTP status {response.status}")
                    return read(response)
            finally:
                connection.close()
        # TLS errors are OSErrors; the other errors mean that the server is not Docker
        except (OSError, HTTPException, *UNPARSABLE) as error:
            raise DockerUnavailableError(str(error)) from error

    def containers(self, timeout_s: float) -> list[dict[str, Any]]:
        """Return the running containers as /containers/json lists them. Raises DockerUnavailableError."""
        containers = self.get("/containers/json", timeout_s, read_document)
        if not isinstance(containers, list):
            raise DockerUnavailableError("Docker's response is not a list of containers")
        return [container for container in containers if isinstance(container, dict)]

    def changes(self, connect_s: float) -> Iterator[None]:
        """Yield once when events are subscribed to, then whenever a container starts or ends.

        Raises DockerUnavailableError when the connection ends.
        """
        from http.client import HTTPException
        from urllib.parse import quote

        filters = '{"type":["container"],"event":["start","die"]}'
        try:
            connection = self._connection(connect_s)
            try:
                with _connected(connection, TIMEOUT_FACTOR * connect_s) as sock:
                    connection.request("GET", f"/events?filters={quote(filters)}")
                    response = connection.getresponse()
                if response.status != 200:
                    raise DockerUnavailableError(f"Docker returned HTTP status {response.status}")
                sock.settimeout(None)  # an idle Docker sends no event for days
                yield
                while event := response.readline(EVENT_LIMIT):
                    if len(event) == EVENT_LIMIT:
                        raise DockerUnavailableError(f"an event of Docker's is larger than {EVENT_LIMIT} bytes")
                    yield
            finally:
                connection.close()
        except (OSError, HTTPException, *UNPARSABLE) as error:
            raise DockerUnavailableError(str(error)) from error
        raise DockerUnavailableError("Docker closed the connection")

    def _connection(self, timeout_s: float | None) -> "HTTPConnection":
        """Create a connection, which opens with the first request. Raises OSError for unreadable certificates."""
        from http.client import HTTPConnection

        context = self.tls()
        if context is None:
            return HTTPConnection(self.address, self.port, timeout=timeout_s)

        tls: SSLContext = context

        class Secured(HTTPConnection):
            """An HTTPS connection whose handshake can be aborted: http.client's own sets its socket only after that."""

            def connect(self) -> None:
                """Connect, and only then do the TLS handshake."""
                super().connect()
                self.sock = tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
                self.sock.do_handshake()

        return Secured(self.address, self.port, timeout=timeout_s)

    def tls(self) -> "SSLContext | None":
        """Return the TLS context, None without TLS. Raises OSError for unreadable certificates."""
        import ssl

        if self.certs is None:
            return None
        context = ssl.create_default_context(cafile=str(self.certs / "ca.pem"))
        context.load_cert_chain(self.certs / "cert.pem", self.certs / "key.pem")
        return context


def read_body(response: "HTTPResponse", limit: int = ANSWER_LIMIT) -> bytes:
    """Return the body of a response. Raises DockerUnavailableError when it is larger than `limit` bytes."""
    content = response.read(limit + 1)
    if len(content) > limit:
        raise DockerUnavailableError(f"Docker's response is larger than {limit} bytes")
    return content


def read_document(response: "HTTPResponse") -> Any:
    """Parse the JSON of a response. Raises DockerUnavailableError when it is too large, and ValueError."""
    return json_text.parse(read_body(response))


@contextmanager
def _connected(connection: "HTTPConnection", limit_s: float) -> "Iterator[socket.socket]":
    """Connect, and shut the connection down when connecting and the block take longer than `limit_s` together.

    Readers of the connection then get its end. Raises OSError, and DockerUnavailableError at the deadline.
    """
    late = threading.Event()
    sock: socket.socket | None = None

    def shut_down() -> None:
        late.set()
        for end in (sock, connection.sock):
            if end is not None:
                with suppress(OSError):
                    socket.socket.shutdown(end, socket.SHUT_RDWR)  # TLS's own shutdown would drop the session

    timer = threading.Timer(limit_s, shut_down)
    timer.daemon = True
    timer.start()
    try:
        connection.connect()
        sock = connection.sock  # once there is a response, the connection lets go of the socket
        yield sock
    finally:
        timer.cancel()
    if late.is_set():
        raise DockerUnavailableError(f"Docker did not answer within {limit_s:.0f} s")
