"""A short answer of a web server, whole; what it still is, is kept and not sent again."""

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
    """All that `url` answers; kept in `folder`. Raises DownloadError, also for a web page: none is asked for."""
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.answer"
    etag, kept = _read(path)
    conditions = {"If-None-Match": etag} if etag else {}
    with http_client.get(url, {**(headers or {}), **conditions}) as response:
        if response.status_code == 304 and etag:
            return kept
        http_client.raise_for_status(response)
        content = http_client.read_content(response, http_client.CONTENT_LIMIT + 1)
        announced = response.headers.get("Content-Length", "")
        etag = response.headers.get("ETag", "")
    if _is_cut(announced, len(content)):
        raise http_client.TransferInterruptedError(
            f"{display_url(url)} ended after {len(content)} of {announced} bytes", hint=http_client.HINT_AGAIN
        )
    if len(content) > http_client.CONTENT_LIMIT:
        limit = http_client.CONTENT_LIMIT >> 20
        raise DownloadError(
            f"{display_url(url)} does not end: more than {limit} MiB came", hint=http_client.HINT_ADDRESS
        )
    if is_web_page(content):
        raise DownloadError(f"{display_url(url)} is a web page", hint=http_client.HINT_PORTAL)
    if etag:
        _write(path, etag, content)
    return content


def _is_cut(announced: str, came: int) -> bool:
    """Return whether more was announced than came; an absurd number is none."""
    try:
        return came < numbers.parse(announced, http_client.CONTENT_LIMIT)
    except ValueError:
        return False


def _read(path: Path) -> tuple[str, bytes]:
    """The etag and the answer; empty where there is none, or it is not what was written."""
    try:
        etag, sha256, content = read_bounded(path).split(b"\n", 2)
    except (OSError, ValueError):
        return "", b""
    return (etag.decode("latin-1"), content) if hashlib.sha256(content).hexdigest().encode() == sha256 else ("", b"")


def _write(path: Path, etag: str, content: bytes) -> None:
    """A folder that cannot be written costs only that it is sent again."""
    from contextlib import suppress

    sha256 = hashlib.sha256(content).hexdigest()
    with suppress(OSError):
        private_folder(path.parent)
        write_atomic(path, f"{etag}\n{sha256}\n".encode("latin-1") + content)
