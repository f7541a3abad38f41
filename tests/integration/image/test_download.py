"""A download is complete and as announced, or it fails; tested on misbehaving servers."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from b2d.errors import DownloadError, MachineLockedError
from b2d.image.download import IsoDownload
from b2d.network import http_client
from b2d.network.http_watch import TransferTimeouts
from tests.support.fakes import FakeProgress, FakeReporter
from tests.support.kernel_images import an_iso
from tests.support.timing import not_waiting_for

ISO = an_iso("b2d-v19.03.12", {"/version": bytes(range(256)) * 4000})
SHA256 = hashlib.sha256(ISO).hexdigest()
HASTY = TransferTimeouts(connect_s=0.3, read_s=0.3, window_s=0.3, window_bytes=1000)


@dataclass
class Server:
    """A web server on loopback: each request gets the next of `answers`, and the last one forever."""

    url: str = ""
    answers: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.requests]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    playing = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            playing.requests.append(dict(self.headers))
            answer = playing.answers.pop(0) if len(playing.answers) > 1 else playing.answers[0]
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):
                answer(self)

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        playing.url = f"http://127.0.0.1:{listening.server_port}/boot2docker.iso"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield playing
        playing.ended.set()
        listening.shutdown()
        thread.join()


@contextmanager
def head(to: BaseHTTPRequestHandler, code: int = 200, **headers: Any) -> Iterator[None]:
    to.send_response(code)
    for name, value in headers.items():
        to.send_header(name.replace("_", "-"), str(value))
    to.end_headers()
    yield


def serve(content: bytes = ISO, code: int = 200, **headers: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return the answer of a correct server."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        with head(to, code, Content_Length=len(content), **headers):
            to.wfile.write(content)

    return answer


def break_off(after: int, **headers: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer that ends before the announced length."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        with head(to, Content_Length=len(ISO), **headers):
            to.wfile.write(ISO[:after])

    return answer


def go_on(**headers: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer with the requested range."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        begin = int(to.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {begin}-{len(ISO) - 1}/{len(ISO)}"
        with head(to, 206, Content_Length=len(ISO) - begin, Content_Range=span, **headers):
            to.wfile.write(ISO[begin:])

    return answer


def redirect(target: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return serve(b"", 302, Location=target)


def void(_: object) -> None:
    """Do nothing, for lambdas that answer nothing."""


def stored_suffixes(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir() if path.suffix != ".lock")


def refused(server: Server, folder: Path, **options: object) -> DownloadError:
    with pytest.raises(DownloadError) as failure:
        IsoDownload(server.url, folder).run(FakeReporter(), **{"timeouts": HASTY, **options})  # type: ignore[arg-type]
    assert failure.value.hint
    return failure.value


def test_a_complete_download_is_stored_with_a_progress_bar(server: Server, tmp_path: Path) -> None:
    server.answers = [serve()]
    reporter = FakeReporter()
    path = IsoDownload(server.url, tmp_path / "cache").run(reporter, sha256=SHA256.upper())
    assert path.read_bytes() == ISO
    assert stored_suffixes(tmp_path / "cache") == [".iso", ".last"]
    assert reporter.texts("progress") == ["download boot2docker.iso"]
    assert [(bar.done, bar.total) for bar in reporter.bars] == [(len(ISO), len(ISO))]


def test_a_download_without_a_size_is_checked_by_the_size_in_the_iso(server: Server, tmp_path: Path) -> None:
    def endless(content: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(to: BaseHTTPRequestHandler) -> None:
            with head(to, Connection="close"):
                to.wfile.write(content)

        return answer

    server.answers = [endless(ISO)]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter()).read_bytes() == ISO
    server.answers = [endless(ISO[:-4096])]
    assert "truncated" in refused(server, tmp_path).message


def test_relative_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    server.answers = [redirect("/elsewhere?token=x"), serve()]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter()).read_bytes() == ISO


def test_endless_redirects_are_refused(server: Server, tmp_path: Path) -> None:
    server.answers = [redirect("/boot2docker.iso")]
    with pytest.raises(DownloadError, match="redirects without end"):
        IsoDownload(server.url, tmp_path).run(FakeReporter())
    assert len(server.requests) == http_client.REDIRECT_LIMIT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/x", "http://[::1"])
def test_a_redirect_to_an_unsupported_url_is_refused(server: Server, tmp_path: Path, target: str) -> None:
    server.answers = [redirect(target)]
    assert "not a web address" in refused(server, tmp_path).message


def test_a_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(DownloadError, match="redirects from https to http://host/x"):
        http_client.redirect_target("https://host/x", "http://host/x")
    assert http_client.redirect_target("http://host/x", "https://host/x") == "https://host/x"


@pytest.mark.parametrize("url", ["", "boot2docker", "ftp://host/x.iso", "file:///x.iso", "https://", "http://[::1"])
def test_an_unsupported_url_is_refused_before_any_request(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="not a web address"):
        IsoDownload(url, tmp_path).run(FakeReporter())


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (401, "password"),
        (403, "refuses"),
        (404, "no such file"),
        (410, "no longer has"),
        (429, "too many requests"),
        (418, "refuses the request"),
    ],
)
def test_an_http_error_is_reported_with_its_status(server: Server, tmp_path: Path, code: int, named: str) -> None:
    server.answers = [serve(b"Because.", code)]
    error = refused(server, tmp_path)
    assert named in error.message and str(code) in error.message and server.url in error.message
    assert error.details == "Because."
    assert stored_suffixes(tmp_path) == []


def test_a_failing_server_is_distinguished_from_one_that_refuses(server: Server, tmp_path: Path) -> None:
    server.answers = [serve(b"", 503)]
    assert isinstance(refused(server, tmp_path), http_client.TransferInterruptedError)


@pytest.mark.parametrize("headers", [{}, {"Content_Type": "application/octet-stream", "ETag": '"x"'}])
def test_a_web_page_instead_of_the_iso_is_reported(server: Server, tmp_path: Path, headers: dict[str, Any]) -> None:
    server.answers = [serve(b"\n<!doctype html><title>Welcome to our Wi-Fi", **headers)]
    error = refused(server, tmp_path)
    assert "web page" in error.message and "login" in error.hint
    assert stored_suffixes(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{}", bytes(50_000)])
def test_content_that_is_not_an_iso_is_not_stored(server: Server, tmp_path: Path, content: bytes) -> None:
    server.answers = [serve(content, ETag='"x"')]
    assert "not an ISO image" in refused(server, tmp_path).message
    assert stored_suffixes(tmp_path) == []


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + ISO,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(ISO) + ISO[:-5000],
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/10\r\n\r\n" + ISO,
        b"HTTP/1.1 302 Found\r\nLocation: \r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /\xff\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\n\r\n",
    ],
    ids=lambda response: repr(response[:60]),
)
def test_an_invalid_response_is_reported_and_leaves_nothing(server: Server, tmp_path: Path, response: bytes) -> None:
    server.answers = [lambda to: void(to.wfile.write(response))]
    refused(server, tmp_path)
    assert stored_suffixes(tmp_path) == []


def test_an_endless_response_that_is_not_an_iso_is_aborted_at_its_beginning(server: Server, tmp_path: Path) -> None:
    sent: list[int] = []

    def endless(to: BaseHTTPRequestHandler) -> None:
        with head(to, ETag='"x"'):
            while len(sent) < 1000:
                to.wfile.write(bytes(1 << 16))
                sent.append(1 << 16)

    server.answers = [endless]
    assert "not an ISO image" in refused(server, tmp_path).message
    assert sum(sent) < 30 << 20  # data in flight at loopback's speed
    assert stored_suffixes(tmp_path) == []


def test_an_endless_iso_is_aborted(server: Server, tmp_path: Path) -> None:
    def endless(to: BaseHTTPRequestHandler) -> None:
        with head(to, ETag='"x"'):
            to.wfile.write(ISO)
            while True:
                to.wfile.write(bytes(1 << 16))

    server.answers = [endless]
    assert "more bytes than" in refused(server, tmp_path).message
    assert stored_suffixes(tmp_path) == []


def test_an_iso_with_an_unexpected_hash_is_not_stored(server: Server, tmp_path: Path) -> None:
    server.answers = [serve(ETag='"x"')]
    error = refused(server, tmp_path, sha256="ab" * 32)
    assert SHA256 in error.message and "ab" * 32 in error.message
    assert stored_suffixes(tmp_path) == []


def test_a_broken_transfer_is_resumed_immediately(server: Server, tmp_path: Path) -> None:
    server.answers = [break_off(300_000, ETag='"one"'), go_on(ETag='"one"')]
    reporter = FakeReporter()
    assert IsoDownload(server.url, tmp_path).run(reporter).read_bytes() == ISO
    assert server.ranges() == [None, "bytes=300000-"]
    assert server.requests[1]["If-Range"] == '"one"'
    assert reporter.bars[1].done == reporter.bars[1].total == len(ISO)
    assert len(reporter.texts("note")) == 1


def test_a_partial_file_is_stored_for_the_next_attempt(server: Server, tmp_path: Path) -> None:
    server.answers = [break_off(300_000, Last_Modified="Mon, 29 Jun 2020 17:00:00 GMT"), serve(b"", 503)]
    refused(server, tmp_path)
    assert stored_suffixes(tmp_path) == [".mark", ".part"]
    server.answers = [go_on()]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter()).read_bytes() == ISO
    assert server.requests[-1]["If-Range"] == "Mon, 29 Jun 2020 17:00:00 GMT"


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_a_file_that_cannot_be_resumed_is_removed(server: Server, tmp_path: Path, headers: dict[str, Any]) -> None:
    server.answers = [break_off(300_000, **headers)]
    refused(server, tmp_path)
    assert stored_suffixes(tmp_path) == []
    assert set(server.ranges()) == {None}


def test_a_file_that_has_changed_is_downloaded_from_the_start(server: Server, tmp_path: Path) -> None:
    other = an_iso("b2d-v2", {"/version": bytes(900_000)})
    server.answers = [break_off(300_000, ETag='"one"'), serve(other, ETag='"two"')]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter()).read_bytes() == other


def test_a_server_that_sends_shorter_ranges_is_asked_again(server: Server, tmp_path: Path) -> None:
    def part(begin: int, end: int) -> Callable[[BaseHTTPRequestHandler], None]:
        return serve(ISO[begin:end], 206, Content_Range=f"bytes {begin}-{end - 1}/{len(ISO)}", ETag='"one"')

    rest = part(900_000, len(ISO))
    server.answers = [break_off(300_000, ETag='"one"'), part(300_000, 600_000), part(600_000, 900_000), rest]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter()).read_bytes() == ISO


def test_a_range_of_a_changed_file_is_never_appended(server: Server, tmp_path: Path) -> None:
    """Some servers ignore If-Range."""
    other = an_iso("b2d-v2", {"/version": bytes(900_000)})
    rest = serve(other[300_000:], 206, Content_Range=f"bytes 300000-{len(other) - 1}/{len(other)}", ETag='"two"')
    server.answers = [break_off(300_000, ETag='"one"'), rest, serve(other, ETag='"two"')]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter()).read_bytes() == other
    assert server.ranges() == [None, "bytes=300000-", None]


def test_an_unexpected_range_is_refused(server: Server, tmp_path: Path) -> None:
    wrong = serve(ISO[5:], 206, Content_Range=f"bytes 5-{len(ISO) - 1}/{len(ISO)}", ETag='"one"')
    server.answers = [break_off(300_000, ETag='"one"'), wrong]
    assert "another range" in refused(server, tmp_path).message
    server.answers = [serve()]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter()).read_bytes() == ISO
    assert server.ranges()[-1] is None  # it would answer so forever


def test_a_complete_partial_file_is_used(server: Server, tmp_path: Path) -> None:
    server.answers = [break_off(300_000, ETag='"one"'), serve(b"", 503)]
    refused(server, tmp_path)
    next(tmp_path.glob("*.part")).write_bytes(ISO)
    server.answers = [serve(b"", 416, Content_Range=f"bytes */{len(ISO)}")]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter(), sha256=SHA256).read_bytes() == ISO


def test_a_partial_file_longer_than_the_file_is_discarded(server: Server, tmp_path: Path) -> None:
    server.answers = [break_off(300_000, ETag='"one"'), serve(b"", 503)]
    refused(server, tmp_path)
    next(tmp_path.glob("*.part")).write_bytes(ISO + ISO)
    server.answers = [serve(b"", 416, Content_Range=f"bytes */{len(ISO)}"), serve()]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter()).read_bytes() == ISO


def test_a_server_that_stops_sending_times_out(server: Server, tmp_path: Path) -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        with head(to, Content_Length=len(ISO), ETag='"one"'):
            to.wfile.write(ISO[:1000])
            to.wfile.flush()
            server.ended.wait(10)

    server.answers = [answer]
    with not_waiting_for(10):
        assert "stopped responding" in refused(server, tmp_path).message


def test_a_server_that_sends_too_slowly_is_aborted(server: Server, tmp_path: Path) -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        with head(to, Content_Length=len(ISO)):
            while not server.ended.wait(0.02):
                to.wfile.write(b"x")
                to.wfile.flush()

    server.answers = [answer]
    assert "too slowly" in refused(server, tmp_path).message


def test_a_server_that_never_answers_times_out(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda to: void(server.ended.wait(10))]
    assert "stopped responding" in refused(server, tmp_path).message


def test_an_unreachable_server_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:1 cannot be reached"):
        IsoDownload("http://127.0.0.1:1/x.iso", tmp_path).run(FakeReporter())


def test_an_unreachable_proxy_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match="the proxy cannot be used") as failure:
        IsoDownload("http://192.0.2.1/x.iso", tmp_path).run(FakeReporter())
    assert "http_proxy" in failure.value.hint


@pytest.mark.parametrize(
    "proxy", ["socks5h://127.0.0.1:1", "socks://127.0.0.1:1", "http://", "http://[", "nonsense://x"]
)
def test_an_invalid_proxy_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(DownloadError, match="the proxy cannot be used") as failure:
        IsoDownload("http://192.0.2.1/x.iso", tmp_path).run(FakeReporter())
    assert "all_proxy" in failure.value.hint


def test_a_file_that_cannot_fit_is_refused_before_the_transfer(server: Server, tmp_path: Path) -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        with head(to, Content_Length=1 << 60):
            to.wfile.write(ISO)

    server.answers = [answer]
    assert str(1 << 60) in refused(server, tmp_path).message


def test_concurrent_downloads_of_one_file_wait_for_each_other(server: Server, tmp_path: Path) -> None:
    server.answers = [serve()]
    reporter = FakeReporter()
    with (
        IsoDownload(server.url, tmp_path).lock(reporter),
        pytest.raises(MachineLockedError),
        IsoDownload(server.url, tmp_path).lock(reporter, wait_s=0.2),
    ):
        IsoDownload(server.url, tmp_path).run(reporter)
    assert server.requests == []
    assert reporter.texts("failed") == ["waiting for another b2d to download the same file"]
    with IsoDownload(server.url, tmp_path).lock(reporter):
        assert IsoDownload(server.url, tmp_path).run(reporter).read_bytes() == ISO


def test_a_folder_that_cannot_be_created_is_reported(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server.answers = [serve()]
    with pytest.raises(DownloadError, match="file"):
        IsoDownload(server.url, tmp_path / "file" / "cache").run(FakeReporter())


def test_ctrl_c_leaves_a_partial_file_that_the_next_attempt_resumes(server: Server, tmp_path: Path) -> None:
    class Impatient(FakeProgress):
        def advance(self, amount: int) -> None:
            super().advance(amount)
            if self.done > 300_000:
                raise KeyboardInterrupt

    class Watched(FakeReporter):
        @contextmanager
        def progress(self, text: str, total: int) -> Iterator[FakeProgress]:
            yield Impatient(total)

    server.answers = [serve(ETag='"one"')]
    with pytest.raises(KeyboardInterrupt):
        IsoDownload(server.url, tmp_path).run(Watched())
    had = next(tmp_path.glob("*.part")).stat().st_size
    assert had > 300_000
    server.answers = [go_on()]
    assert IsoDownload(server.url, tmp_path).run(FakeReporter(), sha256=SHA256).read_bytes() == ISO
    assert server.ranges()[-1] == f"bytes={had}-"
