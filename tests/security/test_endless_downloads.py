"""Downloads stop at the end of the ISO, whatever size the server declares; nothing of an endless one is stored."""

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from b2d.errors import DownloadError
from b2d.host.polling import wait_until
from b2d.image import download
from b2d.image.build.package_cache import Cache, RemoteFile, fetch_all
from b2d.network import http_cache, http_client
from tests.integration.image import test_download
from tests.integration.image.test_download import HASTY, ISO, Server, head, refused, serve, stored_suffixes
from tests.support.fakes import FakeReporter
from tests.support.kernel_images import an_iso
from tests.support.timing import not_waiting_for

server = test_download.server
MIB = 1 << 20


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TRAILING_LIMIT", 2 * MIB)


def endless(begin: bytes, sent: list[int], **headers: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(to: BaseHTTPRequestHandler) -> None:
        with head(to, ETag='"x"', **headers):
            to.wfile.write(begin)
            while True:
                to.wfile.write(bytes(1 << 16))
                sent.append(1 << 16)

    return answer


@pytest.mark.parametrize("length", [None, 1 << 32, 7 << 30])
def test_an_endless_iso_is_aborted_for_any_declared_size(server: Server, tmp_path: Path, length: int | None) -> None:
    sent: list[int] = []
    announced = {} if length is None else {"Content-Length": length}
    server.answers = [endless(ISO, sent, **announced)]
    assert "more bytes than" in refused(server, tmp_path).message
    assert sum(sent) < 40 * MIB
    assert stored_suffixes(tmp_path) == []


def test_an_endless_iso_that_declares_no_blocks_is_aborted(server: Server, tmp_path: Path) -> None:
    sent: list[int] = []
    none = bytearray(ISO)
    none[32768 + 80 : 32768 + 88] = bytes(8)
    server.answers = [endless(bytes(none), sent)]
    refused(server, tmp_path)
    assert sum(sent) < 40 * MIB
    assert stored_suffixes(tmp_path) == []


def test_an_iso_that_declares_more_than_the_limit_is_aborted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "IMAGE_LIMIT", 8 * MIB)
    sent: list[int] = []
    large = bytearray(ISO)
    large[32768 + 80 : 32768 + 84] = b"\xff" * 4
    server.answers = [endless(bytes(large), sent)]
    assert "more bytes than" in refused(server, tmp_path).message
    assert sum(sent) < 60 * MIB
    assert stored_suffixes(tmp_path) == []


@pytest.mark.parametrize("length", ["9" * 30, "9" * 6000, str(1 << 40)])
def test_an_excessive_declared_size_is_refused_before_the_transfer(server: Server, tmp_path: Path, length: str) -> None:
    sent: list[int] = []
    server.answers = [endless(ISO, sent, **{"Content-Length": length})]
    refused(server, tmp_path)
    assert sum(sent) < 40 * MIB
    assert stored_suffixes(tmp_path) == []


def test_an_iso_with_trailing_data_is_accepted(server: Server, tmp_path: Path) -> None:
    server.answers = [test_download.serve(an_iso(padding=MIB), ETag='"x"')]
    assert download.IsoDownload(server.url, tmp_path).run(FakeReporter()).stat().st_size > MIB


def test_an_absurd_content_length_is_not_a_bug(server: Server, tmp_path: Path) -> None:
    def absurd(to: BaseHTTPRequestHandler) -> None:
        with head(to, Content_Length="9" * 6000):
            to.wfile.write(b"{}")

    server.answers = [absurd]
    with pytest.raises(DownloadError, match="not what Debian signed"):
        fetch_all([RemoteFile("x", server.url, 10, "0" * 64)], Cache(tmp_path / "cache"), FakeReporter(), "x")
    assert http_cache.get_cached(server.url, tmp_path / "answers", {}) == b"{}"


@contextmanager
def server_that(talks: Callable[[socket.socket], None]) -> Iterator[str]:
    """Start a server that runs this script once per connection, for at most ten seconds, and yield its URL."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                line.settimeout(10)
                threading.Thread(target=talk, args=(line,), daemon=True).start()

    def talk(line: socket.socket) -> None:
        with line, suppress(OSError):
            talks(line)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/b2d.iso"
        listener.shutdown(socket.SHUT_RDWR)


def send_repeatedly(begin: bytes, *again: bytes, pause_s: float = 0.02) -> Callable[[socket.socket], None]:
    """Return a script that sends `begin` after the request, then the other pieces over and over."""

    def talk(line: socket.socket) -> None:
        line.recv(1 << 16)
        line.sendall(begin)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for piece in again:
                line.sendall(piece)
                time.sleep(pause_s)

    return talk


NEVER_DONE = {
    "a body of a redirect": send_repeatedly(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", bytes(1 << 20), pause_s=0),
    "a body of a redirect, slowly": send_repeatedly(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", b"x"),
    "interim answers": send_repeatedly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a status line": send_repeatedly(b"HTTP/1.1 200 ", b"x"),
    "a header": send_repeatedly(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "the size of a chunk": send_repeatedly(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "small chunks": send_repeatedly(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "trailers": send_repeatedly(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"x: y\r\n"),
    "a body": send_repeatedly(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "an error's body": send_repeatedly(b"HTTP/1.1 500 No\r\n\r\n", b"x"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", list(NEVER_DONE))
def test_an_endless_response_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Time and memory are bounded: a redirect's body is not read, and slow bytes do not extend the timeout."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(http_client, "TransferTimeouts", lambda: HASTY)
    with server_that(NEVER_DONE[kind]) as url:
        requests: list[Callable[[], object]] = [
            lambda: download.IsoDownload(url, tmp_path / "iso").run(FakeReporter(), timeouts=HASTY),
            lambda: http_cache.get_cached(url, tmp_path / "answers"),
            lambda: fetch_all([RemoteFile("x", url, 10, "0" * 64)], Cache(tmp_path / "cache"), FakeReporter(), "x"),
        ]
        begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with ThreadPoolExecutor() as pool:  # each one waits
            failures = [future.exception() for future in [pool.submit(request) for request in requests]]
        assert all(isinstance(failure, DownloadError) for failure in failures), failures
        assert time.monotonic() - begin < 9
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert stored_suffixes(tmp_path / "iso") == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["greeting", "proxy"])
def test_an_endless_handshake_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The greeting is TLS's, or a proxy's answer to CONNECT."""
    monkeypatch.setenv("NO_PROXY", "")
    record = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb"  # TLS: the server's hello with its length
    begin = record if kind == "greeting" else b"HTTP/1.1 200 OK\r\n"
    again = b"x" if kind == "greeting" else b"x: y\r\n"
    with server_that(send_repeatedly(begin, again)) as address:
        url = address.replace("http:", "https:")
        if kind == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", address)
            url = "https://127.0.0.1:9/b2d.iso"
        given_up = pytest.raises(DownloadError, match=r"takes too long to respond|stopped responding")
        with not_waiting_for(18), given_up:
            download.IsoDownload(url, tmp_path).run(FakeReporter(), timeouts=HASTY)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_downloads_leave_no_threads_or_sockets(server: Server, tmp_path: Path) -> None:
    """Neither a thread nor a socket is left."""
    server.answers = [serve(ISO, ETag='"x"')]
    threads, descriptors = threading.active_count(), open_files()
    for number in range(5):
        download.IsoDownload(server.url, tmp_path / str(number)).run(FakeReporter())
    wait_until(lambda: threading.active_count() <= threads, condition="the threads' end", timeout_s=10)
    wait_until(lambda: open_files() <= descriptors, condition="the sockets' end", timeout_s=10)
