"""Small responses of web servers, cached while the server's ETag stays the same."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from b2d.errors import DownloadError
from b2d.formats import numbers
from b2d.formats.iso9660 import is_web_page
from b2d.host.files import private_folder, read_bounded, write_atomic
from b2d.network import http_client
from b2d.network.http_client import display_url


def get_cached(url: str, folder: Path, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the response of `url`, cached in `folder`. Raises DownloadError, also for a web page."""
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.answer"
    etag, cached = _read(path)
    conditions = {"If-None-Match": etag} if etag else {}
    with http_client.get(url, {**(headers or {}), **conditions}) as response:
        if response.status_code == 304 and etag:
            return cached
        http_client.raise_for_status(response)
        content = http_client.read_content(response, http_client.CONTENT_LIMIT + 1)
        announced = response.headers.get("Content-Length", "")
        etag = response.headers.get("ETag", "")
    if _is_incomplete(announced, len(content)):
        raise http_client.TransferInterruptedError(
            f"{display_url(url)} ended after {len(content)} of {announced} bytes", hint=http_client.HINT_AGAIN
        )
    if len(content) > http_client.CONTENT_LIMIT:
        limit = http_client.CONTENT_LIMIT >> 20
        raise DownloadError(f"{display_url(url)} sends more than {limit} MiB", hint=http_client.HINT_ADDRESS)
    if is_web_page(content):
        raise DownloadError(f"{display_url(url)} is a web page", hint=http_client.HINT_PORTAL)
    if etag:
        _write(path, etag, content)
    return content


def _is_incomplete(announced: str, received: int) -> bool:
    """Return whether less came than was announced; an invalid number counts as none."""
    try:
        return received < numbers.parse(announced, http_client.CONTENT_LIMIT)
    except ValueError:
        return False


def _read(path: Path) -> tuple[str, bytes]:
    """Return the cached ETag and response; empty where there is none, or it is damaged."""
    try:
        etag, sha256, content = read_bounded(path).split(b"\n", 2)
    except (OSError, ValueError):
        return "", b""
    return (etag.decode("latin-1"), content) if hashlib.sha256(content).hexdigest().encode() == sha256 else ("", b"")


def _write(path: Path, etag: str, content: bytes) -> None:
    """Cache a response; a folder that cannot be written only costs another transfer."""
    from contextlib import suppress

    sha256 = hashlib.sha256(content).hexdigest()
    with suppress(OSError):
        private_folder(path.parent)
        write_atomic(path, f"{etag}\n{sha256}\n".encode("latin-1") + content)
