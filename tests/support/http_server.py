"""A web server on loopback that counts its output; tests choose how it misbehaves on each path."""

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from b2d.guest import tls_certificates
from b2d.paths import MachinePaths

Answer = Callable[[BaseHTTPRequestHandler], None]
PIECE = 1 << 16
PORTAL = b"<!DOCTYPE html>\n<html><body>Welcome to the Grand Hotel. Please log in.</body></html>\n"


@dataclass
class WebServer:
    """A server of files by path; `odd` answers override them. `requests` and `given` record requests and bytes sent."""

    files: dict[str, bytes] = field(default_factory=dict)
    odd: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # host, path, headers
    given: list[int] = field(default_factory=list)
    etags: bool = True  # False: only Last-Modified is sent
    changed: dict[str, datetime] = field(default_factory=dict)
    holds_after: int = 0  # bytes of a file before it waits for `goes_on`
    held: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    authority: Path = field(default_factory=Path)  # the CA of the server with TLS

    @property
    def sent(self) -> int:
        return sum(self.given)

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]

    def put(self, path: str, content: bytes) -> str:
        """Add a file and return its URL."""
        self.files[path] = content
        self.changed[path] = datetime(2020, 6, 29, 17, len(self.changed), tzinfo=UTC)
        return self.url + path

    def answer(self, to: BaseHTTPRequestHandler, host: str) -> None:
        self.requests.append((host, to.path, dict(to.headers)))
        self.given.append(0)
        if to.path in self.odd:
            self.odd[to.path](to)
        elif to.path in self.files:
            self._give(to, self.files[to.path], len(self.given) - 1)
        else:
            respond_with(404)(to)

    def _give(self, to: BaseHTTPRequestHandler, content: bytes, number: int) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        date = format_datetime(self.changed[to.path], usegmt=True)
        mark = {"ETag": etag} if self.etags else {"Last-Modified": date}
        known = to.headers.get("If-None-Match" if self.etags else "If-Modified-Since")
        if known == next(iter(mark.values())):
            _head(to, 304, mark)
            return
        wanted = to.headers.get("Range") if to.headers.get("If-Range") == next(iter(mark.values())) else None
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        span = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {}
        _head(to, 206 if begin else 200, {"Content-Length": str(len(content) - begin), **mark, **span})
        for at in range(begin, len(content), PIECE):
            if 0 < self.holds_after <= at - begin:
                self.held.set()
                self.goes_on.wait(30)
            self.given[number] += len(content[at : at + PIECE])  # before the client has it, and looks here
            to.wfile.write(content[at : at + PIECE])


def respond_with(code: int, content: bytes = b"", **headers: str) -> Answer:
    """Return an answer that is always the same."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        length = {"Content-Length": str(len(content))}
        _head(to, code, length | {name.replace("_", "-"): value for name, value in headers.items()})
        to.wfile.write(content)

    return answer


def _head(to: BaseHTTPRequestHandler, code: int, headers: dict[str, str]) -> None:
    to.send_response(code)
    for name, value in headers.items():
        to.send_header(name, value)
    to.end_headers()


@contextmanager
def serving(folder: Path, *, tls: bool = False) -> Iterator[WebServer]:
    """Serve on a free port of 127.0.0.1 during the block.

    As a proxy it acts as the server of every host. Its TLS certificate is signed by an unknown CA.
    """
    web = WebServer()
    paths = MachinePaths(folder / "certificates")
    tls_certificates.ensure_certificates(paths, ["127.0.0.1", "api.github.com", "github.com"], datetime.now(UTC))
    web.authority = paths.certs / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.authority / "server.pem", paths.authority / "server-key.pem")

    class Handler(BaseHTTPRequestHandler):
        host = ""

        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                web.answer(self, self.host)

        def do_CONNECT(self) -> None:
            self.host = self.path
            self.send_response(200)
            self.end_headers()
            with suppress(ssl.SSLError, ConnectionResetError):
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                self.handle_one_request()
                self.connection.close()

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        if tls:
            listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        web.url = f"http{'s' * tls}://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield web
        finally:
            web.goes_on.set()
            listening.shutdown()
            thread.join()
