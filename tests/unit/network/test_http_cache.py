"""A short answer is downloaded once, and again only when it changed or its cached copy is damaged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.errors import DownloadError
from b2d.network import http_cache
from b2d.network.http_client import ServerUnavailableError
from tests.support.http_server import PORTAL, WebServer, respond_with, serving


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serving(tmp_path) as server:
        yield server


def test_an_unchanged_file_is_not_transferred_again(web: WebServer, tmp_path: Path) -> None:
    url = web.put("/InRelease", b"one\nof\nlines\n")
    for _ in range(3):
        assert http_cache.get_cached(url, tmp_path / "cache") == b"one\nof\nlines\n"
    assert web.given == [13, 0, 0]
    web.put("/InRelease", b"")
    for _ in range(2):
        assert http_cache.get_cached(url, tmp_path / "cache") == b""


@pytest.mark.parametrize("damage", [b"", b"x", b'"etag"\nhash\n', b'"etag"\nhash\none', b"\xff\n\n\n"])
def test_a_damaged_cache_entry_is_downloaded_again(web: WebServer, tmp_path: Path, damage: bytes) -> None:
    url = web.put("/InRelease", b"one")
    http_cache.get_cached(url, tmp_path / "cache")
    next((tmp_path / "cache").iterdir()).write_bytes(damage)
    assert http_cache.get_cached(url, tmp_path / "cache") == b"one"
    assert web.given == [3, 3]


def test_an_answer_that_cannot_be_cached_is_returned(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert http_cache.get_cached(web.put("/InRelease", b"one"), tmp_path / "file") == b"one"


@pytest.mark.parametrize("code", [403, 429, 503])
def test_a_rate_limiting_server_differs_from_a_refusing_one(web: WebServer, tmp_path: Path, code: int) -> None:
    web.odd["/x"] = respond_with(code, Retry_After="60")
    with pytest.raises(ServerUnavailableError):
        http_cache.get_cached(f"{web.url}/x", tmp_path)
    web.odd["/x"] = respond_with(403)
    with pytest.raises(DownloadError) as failure:
        http_cache.get_cached(f"{web.url}/x", tmp_path)
    assert not isinstance(failure.value, ServerUnavailableError)


def test_a_web_page_is_not_cached(web: WebServer, tmp_path: Path) -> None:
    url = web.put("/x", PORTAL)
    with pytest.raises(DownloadError, match="web page"):
        http_cache.get_cached(url, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
