"""A download ends where the ISO in it ends, whatever the server says of sizes; nothing of an endless one is kept."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from b2d import answers, download
from b2d.errors import DownloadFailed
from b2d.image.fetch import Cache, Wanted, get_all
from tests import test_download
from tests.fakes import FakeReporter
from tests.kernels import an_iso
from tests.test_download import ISO, Server, head, kept, refused

server = test_download.server
MIB = 1 << 20


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BEHIND", 2 * MIB)


def endless(begin: bytes, sent: list[int], **headers: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(to: BaseHTTPRequestHandler) -> None:
        with head(to, ETag='"x"', **headers):
            to.wfile.write(begin)
            while True:
                to.wfile.write(bytes(1 << 16))
                sent.append(1 << 16)

    return answer


@pytest.mark.parametrize("length", [None, 1 << 32, 7 << 30])
def test_an_iso_without_an_end_is_given_up_whatever_is_announced(
    server: Server, tmp_path: Path, length: int | None
) -> None:
    sent: list[int] = []
    announced = {} if length is None else {"Content-Length": length}
    server.answers = [endless(ISO, sent, **announced)]
    assert "does not end" in refused(server, tmp_path).message
    assert sum(sent) < 40 * MIB
    assert kept(tmp_path) == []


def test_an_iso_that_says_that_it_has_no_blocks_is_given_up_too(server: Server, tmp_path: Path) -> None:
    sent: list[int] = []
    none = bytearray(ISO)
    none[32768 + 80 : 32768 + 88] = bytes(8)
    server.answers = [endless(bytes(none), sent)]
    refused(server, tmp_path)
    assert sum(sent) < 40 * MIB
    assert kept(tmp_path) == []


def test_an_iso_that_says_that_it_is_larger_than_any_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ISO_LIMIT", 8 * MIB)
    sent: list[int] = []
    large = bytearray(ISO)
    large[32768 + 80 : 32768 + 84] = b"\xff" * 4
    server.answers = [endless(bytes(large), sent)]
    assert "does not end" in refused(server, tmp_path).message
    assert sum(sent) < 60 * MIB
    assert kept(tmp_path) == []


@pytest.mark.parametrize("length", ["9" * 30, "9" * 6000, str(1 << 40)])
def test_a_size_that_no_iso_has_is_refused_before_anything_comes(server: Server, tmp_path: Path, length: str) -> None:
    sent: list[int] = []
    server.answers = [endless(ISO, sent, **{"Content-Length": length})]
    refused(server, tmp_path)
    assert sum(sent) < 40 * MIB
    assert kept(tmp_path) == []


def test_an_iso_with_something_behind_it_is_taken(server: Server, tmp_path: Path) -> None:
    server.answers = [test_download.serve(an_iso(padding=MIB), ETag='"x"')]
    assert download.fetch(server.url, tmp_path, FakeReporter()).stat().st_size > MIB


def test_an_absurd_size_of_a_short_answer_or_a_package_is_no_bug(server: Server, tmp_path: Path) -> None:
    def absurd(to: BaseHTTPRequestHandler) -> None:
        with head(to, Content_Length="9" * 6000):
            to.wfile.write(b"{}")

    server.answers = [absurd]
    with pytest.raises(DownloadFailed, match="not what Debian signed"):
        get_all([Wanted("x", server.url, 10, "0" * 64)], Cache(tmp_path / "cache"), FakeReporter(), "x")
    assert answers.ask(server.url, tmp_path / "answers", {}) == b"{}"
