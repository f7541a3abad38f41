"""A Debian archive on this host, signed with its own key; tests choose the wrong answers for each path."""

import hashlib
import lzma
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pysequoia import SignatureMode, Tsk, sign

from tests.support.deb_builder import Deb

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
SUITES = ("trixie", "trixie-updates", "trixie-security")
PORTAL = b"<!DOCTYPE html>\n<html><body>Welcome to the Grand Hotel. Please log in.</body></html>\n"


class LocalDebian:
    """An archive that serves `files` by path; the `wrong` answers for a part of the path come first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.wrong: dict[str, Iterator[Answer]] = {}
        self.requests: list[tuple[str, str]] = []  # path, range
        self.key = Tsk.generate("Archive <archive@example.org>")
        self.created = datetime.now(UTC).replace(microsecond=0)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/debian"

    def trusted(self, folder: Path) -> Path:
        """Write the public key to a file."""
        path = folder / "archive.gpg"
        path.write_bytes(bytes(self.key.extract_certificate()))
        return path

    def publish(
        self,
        suite: str,
        *debs: Deb,
        codename: str = "",
        date: datetime | None = None,
        valid_until: datetime | None = None,
        key: Tsk | None = None,
    ) -> None:
        """Put packages and a signed index into the archive; they replace the suite's earlier index.

        `date` is the date of the index, by default the creation of this archive.
        """
        base = "debian-security" if suite.endswith("-security") else "debian"
        self.files |= {f"/{base}/{deb.path}": deb.content for deb in debs}
        index = lzma.compress("\n".join(_stanza(deb) for deb in debs).encode())
        folder = f"/{base}/dists/{suite}"
        sha256 = hashlib.sha256(index).hexdigest()
        self.files[f"{folder}/main/binary-amd64/by-hash/SHA256/{sha256}"] = index
        expires = f"Valid-Until: {format_datetime(valid_until)}\n" if valid_until else ""
        text = (
            f"Origin: Debian\nSuite: some\nCodename: {codename or suite}\n"
            f"Date: {format_datetime(date or self.created)}\n{expires}SHA256:\n"
            f" {sha256} {len(index)} main/binary-amd64/Packages.xz\n"
        )
        self.files[f"{folder}/InRelease"] = sign((key or self.key).signer(), text.encode(), mode=SignatureMode.CLEAR)

    def paths(self) -> list[str]:
        """Return the requested paths so far."""
        return [path for path, _ in self.requests]

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        """Send the next wrong answer for that path, else the right one."""
        self.requests.append((to.path, to.headers.get("Range", "")))
        content = self.files.get(to.path)
        for part, answers in self.wrong.items():
            if part in to.path:
                wrong = next(answers, None)
                if wrong is not None:
                    wrong(to, content or b"")
                    return
        if content is None:
            respond_with(404)(to, b"")
        else:
            respond_normally(to, content)


def respond_normally(to: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer as a correct server does, ranges included."""
    etag = _etag(content)
    begin = int(to.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    if begin and to.headers.get("If-Range", etag) != etag:
        begin = 0
    span = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {}
    if begin and begin >= len(content):
        _send(to, 416, b"", 0, {"Content-Range": f"bytes */{len(content)}"})
        return
    _send(to, 206 if begin else 200, content[begin:], len(content) - begin, {"ETag": etag, **span})


def respond_with(code: int, content: bytes = b"") -> Answer:
    """Return a handler that always sends this answer."""
    return lambda to, _content: _send(to, code, content, len(content))


def break_off_after(after: int) -> Answer:
    """Return a handler that closes the connection after that many bytes of the announced body."""
    return lambda to, content: _send(to, 200, content[:after], len(content), {"ETag": _etag(content)})


def replace_content(change: Callable[[bytes], bytes]) -> Answer:
    """Return a handler that sends other content."""
    return lambda to, content: respond_normally(to, change(content))


def respond_slowly(to: BaseHTTPRequestHandler, content: bytes) -> None:
    """Send the content over half a minute."""
    to.send_response(200)
    to.send_header("Content-Length", str(len(content)))
    to.end_headers()
    for begin in range(0, len(content), 1 + len(content) // 300):
        to.wfile.write(content[begin : begin + 1 + len(content) // 300])
        time.sleep(0.1)


def flip_bit(content: bytes) -> bytes:
    """Return the content with one bit in the middle flipped."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@contextmanager
def served(debian: LocalDebian) -> Iterator[LocalDebian]:
    """Serve on a free port of 127.0.0.1 during the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):
                debian.answer(self)

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        debian.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield debian
        finally:
            listening.shutdown()
            thread.join()


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


def _send(
    to: BaseHTTPRequestHandler, code: int, content: bytes, announced: int, headers: dict[str, str] | None = None
) -> None:
    to.send_response(code)
    for name, value in {"Content-Length": str(announced), **(headers or {})}.items():
        to.send_header(name, value)
    to.end_headers()
    to.wfile.write(content)


def _stanza(deb: Deb) -> str:
    facts = {
        "Package": deb.name,
        "Version": deb.version,
        "Architecture": "amd64",
        "Filename": deb.path,
        "Size": str(len(deb.content)),
        "SHA256": hashlib.sha256(deb.content).hexdigest(),
    }
    if deb.depends:
        facts["Depends"] = deb.depends
    return "".join(f"{key}: {value}\n" for key, value in facts.items())
