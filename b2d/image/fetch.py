"""Files come from a mirror whole and with the hash that the signed index gives them, or not at all."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.errors import DownloadFailed
from b2d.files import private_folder, write_whole
from b2d.ports import Progress, Reporter

if TYPE_CHECKING:
    import requests

CONNECT_S, READ_S = 10, 30
AT_ONCE = 4
ATTEMPTS = 3
CHUNK = 1 << 16  # bytes
INDEX_LIMIT = 64 << 20  # bytes; InRelease is 140 kB


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file, known before it is fetched."""

    name: str  # for messages
    url: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Cache:
    """Verified files by their hash, in one folder: deleting it loses nothing."""

    folder: Path

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def has(self, wanted: Wanted) -> bool:
        """True when the whole file is here; what is not what it was is removed."""
        path = self.path(wanted.sha256)
        if not path.is_file():
            return False
        if path.stat().st_size == wanted.size and _sha256(path) == wanted.sha256:
            return True
        path.unlink()
        return False


def get_small(url: str) -> bytes:
    """A small file of unknown size, such as an index that signs itself. Raises DownloadFailed."""
    import requests

    try:
        with requests.get(url, timeout=(CONNECT_S, READ_S), stream=True) as answer:
            answer.raise_for_status()
            content = b""
            for chunk in answer.iter_content(CHUNK):
                content += chunk
                if len(content) > INDEX_LIMIT:
                    raise DownloadFailed(f"{url} does not end: more than {INDEX_LIMIT >> 20} MiB came")
            return content
    except requests.RequestException as error:
        raise DownloadFailed(f"{url} could not be fetched: {_reason(error)}", hint="b2d config mirror") from error


def get_all(wanted: Sequence[Wanted], cache: Cache, reporter: Reporter, text: str) -> None:
    """Put every wanted file into the cache, several at once. Raises DownloadFailed for the first that fails.

    What came is kept, so the next attempt goes on there.
    """
    import requests

    private_folder(cache.folder)
    missing = [file for file in wanted if not cache.has(file)]
    if not missing:
        return
    with (
        reporter.progress(text, sum(file.size for file in missing)) as progress,
        requests.Session() as session,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        futures = [pool.submit(_get, file, cache, session, progress) for file in missing]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _get(wanted: Wanted, cache: Cache, session: "requests.Session", progress: Progress) -> None:
    import requests

    part = cache.folder / f"{wanted.sha256}.part"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _append(wanted, part, session, progress)
            break
        except requests.RequestException as error:
            if attempt == ATTEMPTS or _is_final(error):
                raise DownloadFailed(f"{wanted.url} could not be fetched: {_reason(error)}") from error
    found = part.read_bytes()
    if len(found) < wanted.size:
        raise DownloadFailed(
            f"{wanted.name} is cut off: {len(found)} bytes of {wanted.size} came from {wanted.url}",
            hint="try again",
        )
    part.unlink()
    if hashlib.sha256(found).hexdigest() != wanted.sha256:
        raise DownloadFailed(
            f"{wanted.name} is not what Debian signed: its hash is wrong. Nothing was kept of it",
            hint="try again, or another mirror: b2d iso build --mirror URL",
            details=f"{wanted.url}\n{_shape(found)}",
        )
    write_whole(cache.path(wanted.sha256), found)


def _append(wanted: Wanted, part: Path, session: "requests.Session", progress: Progress) -> None:
    """Fetch what is missing of `part`, by a range where the server knows ranges."""
    have = part.stat().st_size if part.exists() else 0
    if have >= wanted.size:
        part.unlink()  # whole, yet not verified: not to be trusted
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(wanted.url, headers=headers, timeout=(CONNECT_S, READ_S), stream=True) as answer:
        answer.raise_for_status()
        resumed = have > 0 and answer.status_code == 206
        progress.advance(have if resumed else 0)
        with part.open("ab" if resumed else "wb") as file:
            left = wanted.size - (have if resumed else 0)
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                progress.advance(len(chunk))
                left -= len(chunk)
                if left < 0:
                    break  # longer than signed: the hash will tell


def _is_final(error: "requests.RequestException") -> bool:
    """True where asking again cannot help: the server said no."""
    return error.response is not None and error.response.status_code < 500


def _reason(error: "requests.RequestException") -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return str(error)


def _shape(content: bytes) -> str:
    begin = content[:200].lstrip().lower()
    if begin.startswith((b"<!doctype", b"<html")):
        return "what came is a web page"
    return f"it begins with {content[:16]!r}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
