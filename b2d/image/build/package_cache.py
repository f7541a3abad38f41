"""Download files from a mirror, complete and with the hash of the signed index, or not at all."""

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from b2d.errors import DownloadError, MachineLockedError
from b2d.formats.iso9660 import is_web_page
from b2d.host.files import private_folder, write_atomic
from b2d.network import http_cache, http_client
from b2d.reporting.base import Progress, Reporter

CONCURRENT_DOWNLOADS = 4
HASHED = re.compile(r"[0-9a-f]{64}(?:\.part)?")
ATTEMPTS = 3
CHUNK = 1 << 18  # bytes
KEPT_S = 30 * 86400.0  # since a build last used a file
LOCK_WAIT_S = 900.0  # as long as another b2d may take for the same files
HINT_MIRROR = "try another mirror: set B2D_MIRROR, or mirror in config.toml"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the signed index lists it."""

    name: str  # for messages
    url: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Cache:
    """Verified files by their hash in one folder, which may be deleted at any time."""

    folder: Path

    def path(self, sha256: str) -> Path:
        """Return the path of a verified file."""
        return self.folder / sha256

    def part(self, sha256: str) -> Path:
        """Return the path of a partial download."""
        return self.folder / f"{sha256}.part"

    def has(self, wanted: RemoteFile) -> bool:
        """Return whether the file is cached; a damaged copy is removed."""
        path = self.path(wanted.sha256)
        if not path.is_file():
            return False
        if path.stat().st_size == wanted.size and _sha256(path) == wanted.sha256:
            with suppress(PermissionError):  # a file of another user that is only readable
                os.utime(path)
            return True
        path.unlink()
        return False

    def drop_old(self, now: float, used: Collection[str]) -> None:
        """Remove files that no build used in the month before `now` (Unix time), except the hashes `used`."""
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another b2d removes files too
                if HASHED.fullmatch(path.name) and path.name not in used and now - path.stat().st_mtime > KEPT_S:
                    path.unlink()


class HashMismatchError(DownloadError):
    """A file of a mirror that differs from the signed index."""


def fetch_small(url: str, cache: Cache) -> bytes:
    """Return a small file of unknown size, such as an index with its own signature. Raises DownloadError."""
    for _ in range(ATTEMPTS - 1):
        with suppress(http_client.TransferInterruptedError):
            return http_cache.get_cached(url, cache.folder)
    return http_cache.get_cached(url, cache.folder)


def fetch_all(wanted: Sequence[RemoteFile], cache: Cache, reporter: Reporter, text: str) -> None:
    """Download every missing file into the cache, several at once.

    Raises DownloadError for the first that fails, and MachineLockedError when another b2d downloads for very long.
    Partial downloads are kept for the next attempt.
    """
    if all(cache.has(file) for file in wanted):
        return
    with _download_lock(cache, reporter):
        missing = [file for file in wanted if not cache.has(file)]
        with reporter.progress(text, sum(file.size for file in missing)) as progress:
            _fetch_missing(missing, cache, progress)


def _fetch_missing(missing: Sequence[RemoteFile], cache: Cache, progress: Progress) -> None:
    stop = Event()
    with ThreadPoolExecutor(CONCURRENT_DOWNLOADS) as pool:
        futures = [pool.submit(_fetch, file, cache, _Share(progress), stop) for file in missing]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:  # the other downloads end after their current chunk
            stop.set()
            pool.shutdown(cancel_futures=True)
    for future in done:
        future.result()


@contextmanager
def _download_lock(cache: Cache, reporter: Reporter) -> Iterator[None]:
    """Hold the lock under which partial downloads grow; the kernel releases it when the process dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(private_folder(cache.folder) / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with reporter.step("waiting for another b2d to download packages"):
            try:
                lock.acquire(timeout=LOCK_WAIT_S)
            except Timeout:
                raise MachineLockedError(
                    "another b2d is downloading packages", hint="try again when it has finished"
                ) from None
    try:
        yield
    finally:
        lock.release()


class _Share:
    """One file's share of a progress bar; bytes that are downloaded again do not count."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reached = 0

    def reach(self, position: int) -> None:
        """Report that `position` bytes of the file are downloaded."""
        self._progress.advance(max(0, position - self._reached))
        self._reached = max(position, self._reached)


def _fetch(wanted: RemoteFile, cache: Cache, share: _Share, stop: Event) -> None:
    """Download one file; a partial download that turns out wrong is discarded once."""
    part = cache.part(wanted.sha256)
    for left in reversed(range(ATTEMPTS)):
        is_resumed = part.exists()
        try:
            _append(wanted, part, share, stop)
            write_atomic(cache.path(wanted.sha256), _verify(wanted, part))
            part.unlink()
            return
        except http_client.TransferInterruptedError:
            if not left:
                raise
        except HashMismatchError:
            part.unlink(missing_ok=True)
            if not (left and is_resumed):
                raise


def _append(wanted: RemoteFile, part: Path, share: _Share, stop: Event) -> None:
    """Download the rest of `part`, by a range request where the server supports it."""
    received = part.stat().st_size if part.exists() else 0
    if received >= wanted.size:  # complete, but never verified
        part.unlink()
        received = 0
    with http_client.get(wanted.url, {"Range": f"bytes={received}-"} if received else {}) as response:
        if response.status_code == 416:
            raise _mismatch_error(wanted, f"the server has fewer than {received} bytes")
        http_client.raise_for_status(response)
        received = received if response.status_code == 206 else 0
        with part.open("ab" if received else "wb") as file:
            while received < wanted.size and (chunk := response.read_some(min(CHUNK, wanted.size - received))):
                if not received:
                    _check_begin(wanted, chunk, response)
                file.write(chunk)
                received += len(chunk)
                share.reach(received)
                if stop.is_set():
                    raise DownloadError(f"{wanted.name}: download cancelled")
    if received < wanted.size:
        address = http_client.display_url(wanted.url)
        raise http_client.TransferInterruptedError(
            f"{wanted.name} is incomplete: {address} sent {received} of {wanted.size} bytes",
            hint=http_client.HINT_AGAIN,
        )


def _check_begin(wanted: RemoteFile, begin: bytes, response: http_client.Response) -> None:
    """Raise HashMismatchError at once where the response cannot be the file."""
    if is_web_page(begin):
        raise HashMismatchError(
            f"{http_client.display_url(wanted.url)} is a web page, not a Debian package",
            hint=http_client.HINT_PORTAL,
        )
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and announced.lstrip("0") != str(wanted.size).lstrip("0"):
        raise _mismatch_error(wanted, f"the server has {announced[:20]} bytes, the signed index says {wanted.size}")


def _verify(wanted: RemoteFile, part: Path) -> bytes:
    content = part.read_bytes()
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise _mismatch_error(wanted, f"its hash is wrong; it begins with {content[:16]!r}")
    return content


def _mismatch_error(wanted: RemoteFile, details: str) -> HashMismatchError:
    return HashMismatchError(
        f"{wanted.name} is not what Debian signed, and was discarded: {http_client.display_url(wanted.url)}",
        hint=HINT_MIRROR,
        details=details,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
