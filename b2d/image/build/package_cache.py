"""Download files from a mirror, complete and with the hash of the signed index, or not at all."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from b2d.errors import DownloadError
from b2d.formats.iso9660 import is_web_page
from b2d.host.files import hash_of
from b2d.network import http_cache, http_client
from b2d.network.download import WrongContentError, download, download_lock, retry_interrupted
from b2d.network.partial_file import PartialFile
from b2d.reporting.base import Progress, Reporter

CONCURRENT_DOWNLOADS = 4
HASHED = re.compile(r"[0-9a-f]{64}(?:\.part|\.mark)?")
START = 4096  # bytes by which a web page is recognized
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

    def size_limit(self, path: Path, announced: int) -> int:
        """Return the size in the signed index; see ExpectedFile."""
        with path.open("rb") as file:
            start = file.read(START)
        if is_web_page(start):
            raise HashMismatchError(
                f"{http_client.display_url(self.url)} is a web page, not a Debian package", hint=http_client.HINT_PORTAL
            )
        if start and announced not in (0, self.size):
            raise self._mismatch_error(f"the server has {announced} bytes, the signed index says {self.size}")
        return self.size

    def verify(self, path: Path) -> None:
        """Check size and hash; see ExpectedFile."""
        if path.stat().st_size != self.size or hash_of(path) != self.sha256:
            with path.open("rb") as file:
                start = file.read(16)
            raise self._mismatch_error(f"its hash is wrong; it begins with {start!r}")

    def _mismatch_error(self, details: str) -> "HashMismatchError":
        return HashMismatchError(
            f"{self.name} is not what Debian signed, and was discarded: {http_client.display_url(self.url)}",
            hint=HINT_MIRROR,
            details=details,
        )


@dataclass(frozen=True, slots=True)
class Cache:
    """Verified files by their hash in one folder, which may be deleted at any time."""

    folder: Path

    def path(self, sha256: str) -> Path:
        """Return the path of a verified file."""
        return self.folder / sha256

    def partial(self, sha256: str) -> PartialFile:
        """Return the file while it is not complete."""
        return PartialFile(self.folder, sha256)

    def has(self, wanted: RemoteFile) -> bool:
        """Return whether the file is cached; a damaged copy is removed."""
        path = self.path(wanted.sha256)
        if not path.is_file():
            return False
        if path.stat().st_size == wanted.size and hash_of(path) == wanted.sha256:
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


class HashMismatchError(WrongContentError):
    """A file of a mirror that differs from the signed index."""


def fetch_small(url: str, cache: Cache) -> bytes:
    """Return a small file of unknown size, such as an index with its own signature. Raises DownloadError."""
    return retry_interrupted(lambda: http_cache.get_cached(url, cache.folder))


def fetch_all(wanted: Sequence[RemoteFile], cache: Cache, reporter: Reporter, text: str) -> None:
    """Download every missing file into the cache, several at once.

    Raises DownloadError for the first that fails, and MachineLockedError when another b2d downloads for very long.
    Partial downloads are kept for the next attempt.
    """
    if all(cache.has(file) for file in wanted):
        return
    with download_lock(cache.folder / "lock", "packages", reporter, wait_s=LOCK_WAIT_S):
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
    """Download one file into the cache."""

    @contextmanager
    def show(offset: int, _total: int) -> Iterator[Callable[[int], None]]:
        position = offset

        def advance(amount: int) -> None:
            nonlocal position
            position += amount
            share.reach(position)
            if stop.is_set():
                raise DownloadError(f"{wanted.name}: download cancelled")

        yield advance

    partial = cache.partial(wanted.sha256)
    download(wanted, partial, show)
    partial.complete(cache.path(wanted.sha256))
