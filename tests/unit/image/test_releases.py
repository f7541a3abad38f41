"""The last release comes from the releases API, or from a built-in default when that cannot be reached."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from b2d.errors import DownloadError
from b2d.image.releases import LAST_RELEASE, Release, boot2docker_release, newest_release
from tests.support.fakes import FakeReporter

URL = "https://github.com/o/r/releases/download/v2/boot2docker.iso"


class Api:
    """A releases API on loopback."""

    url = ""
    code = 200
    content = b""
    headers: dict[str, str] = {}  # noqa: RUF012  replaced, never changed

    def publish(self, *releases: object) -> None:
        self.content = json.dumps(releases).encode()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("NO_PROXY", "*")
    playing = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(playing.code)
            for name, value in playing.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(playing.content)

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        playing.url = f"http://127.0.0.1:{listening.server_port}/repos/o/r/releases"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield playing
        listening.shutdown()
        thread.join()


def a_release(tag: str = "v2", **changes: object) -> dict[str, object]:
    asset = {"name": "boot2docker.iso", "browser_download_url": URL}
    return {"tag_name": tag, "prerelease": False, "draft": False, "assets": [asset], "body": "", **changes}


def test_the_last_release_is_the_first_full_one_with_an_iso(api: Api, tmp_path: Path) -> None:
    api.publish(
        a_release("v4-rc1", prerelease=True),
        a_release("v3", draft=True),
        a_release("v2.5", assets=[]),
        a_release(),
    )
    reporter = FakeReporter()
    assert boot2docker_release(tmp_path, reporter, api.url) == Release("2", URL)
    assert reporter.messages == []


def test_the_hash_is_read_from_the_release_notes(api: Api, tmp_path: Path) -> None:
    sha512, sha256, other = "ab" * 64, "cd" * 32, "ef" * 32
    body = f"$ sha512sum boot2docker.iso\n{sha512}  boot2docker.iso\n{other}  other.iso\n{sha256}  boot2docker.iso\n"
    api.publish(a_release(body=body))
    assert newest_release(tmp_path, api.url).sha256 == sha256


def test_the_digest_of_github_has_priority(api: Api, tmp_path: Path) -> None:
    asset = {"name": "boot2docker.iso", "browser_download_url": URL, "digest": "sha256:" + "12" * 32}
    api.publish(a_release(assets=[asset], body="cd" * 32 + "  boot2docker.iso"))
    assert newest_release(tmp_path, api.url).sha256 == "12" * 32


@pytest.mark.parametrize("content", [b"", b"<html>", b"{}", b"[1]", b'[{"assets": [{}]}]', b'{"message": "no"}'])
def test_an_invalid_answer_is_reported(api: Api, content: bytes, tmp_path: Path) -> None:
    api.content = content
    with pytest.raises(DownloadError):
        newest_release(tmp_path, api.url)


def test_a_rate_limit_is_reported_and_the_known_release_is_used(api: Api, tmp_path: Path) -> None:
    api.code, api.headers = 403, {"X-RateLimit-Remaining": "0"}
    reporter = FakeReporter()
    assert boot2docker_release(tmp_path, reporter, api.url) == LAST_RELEASE
    assert "received too many requests" in reporter.texts("warn")[0]


def test_without_a_network_the_known_release_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    reporter = FakeReporter()
    assert boot2docker_release(tmp_path, reporter, "http://127.0.0.1:1/releases").version == "19.03.12"
    assert len(reporter.texts("warn")) == 1
