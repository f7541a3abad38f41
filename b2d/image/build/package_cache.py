"""Files come from a mirror whole and with the hash that the signed index gives them, or not at all."""

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
KEPT_S = 30 * 86400.0  # since a build last had a use for a file
LOCK_WAIT_S = 900.0  # as long as another b2d may need to fetch the same
HINT_MIRROR = "another mirror: set B2D_MIRROR, or mirror in config.toml"


@dataclass(frozen=True, slots=True)
class RemoteFile:
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

    def part(self, sha256: str) -> Path:
        """Where a file grows until it is whole and verified."""
        return self.folder / f"{sha256}.part"

    def has(self, wanted: RemoteFile) -> bool:
        """True when the whole file is here; what is not what it was is removed."""
        path = self.path(wanted.sha256)
        if not path.is_file():
            return False
        if path.stat().st_size == wanted.size and _sha256(path) == wanted.sha256:
            with suppress(PermissionError):  # of somebody who may only read here
                os.utime(path)
            return True
        path.unlink()
        return False

    def drop_old(self, now: float, used: Collection[str]) -> None:
        """Remove what no build had a use for in the month before `now` (s since 1970), but for the hashes `used`."""
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another b2d does the same
                if HASHED.fullmatch(path.name) and path.name not in used and now - path.stat().st_mtime > KEPT_S:
                    path.unlink()


class HashMismatchError(DownloadError):
    """What a mirror gave is another file than the signed index says."""


def get_small(url: str, cache: Cache) -> bytes:
    """A small file of unknown size, such as an index that signs itself. Raises DownloadError."""
    for _ in range(ATTEMPTS - 1):
        with suppress(http_client.TransferInterruptedError):
            return http_cache.get_cached(url, cache.folder)
    return http_cache.get_cached(url, cache.folder)


def get_all(wanted: Sequence[RemoteFile], cache: Cache, reporter: Reporter, text: str) -> None:
    """Put every wanted file into the cache, several at once. Raises DownloadError for the first that fails.

    What came is kept, so the next attempt goes on there. Raises MachineLockedError when another b2d does the same for
    very long.
    """
    if all(cache.has(file) for file in wanted):
        return
    with _alone(cache, reporter):
        missing = [file for file in wanted if not cache.has(file)]
        with reporter.progress(text, sum(file.size for file in missing)) as progress:
            _get_missing(missing, cache, progress)


def _get_missing(missing: Sequence[RemoteFile], cache: Cache, progress: Progress) -> None:
    stop = Event()
    with ThreadPoolExecutor(CONCURRENT_DOWNLOADS) as pool:
        futures = [pool.submit(_get, file, cache, _Share(progress), stop) for file in missing]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:  # the others end with the piece that they are at
            stop.set()
            pool.shutdown(cancel_futures=True)
    for future in done:
        future.result()


@contextmanager
def _alone(cache: Cache, reporter: Reporter) -> Iterator[None]:
    """One b2d at a time lets parts grow; the kernel holds the lock."""
    from filelock import FileLock, Timeout

    lock = FileLock(private_folder(cache.folder) / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with reporter.step("waiting for another b2d that fetches packages"):
            try:
                lock.acquire(timeout=LOCK_WAIT_S)
            except Timeout:
                raise MachineLockedError("another b2d fetches packages", hint="try again when that has ended") from None
    try:
        yield
    finally:
        lock.release()


class _Share:
    """What one file adds to a bar; what comes twice counts once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reached = 0

    def reach(self, position: int) -> None:
        """So many bytes of the file are there."""
        self._progress.advance(max(0, position - self._reached))
        self._reached = max(position, self._reached)


def _get(wanted: RemoteFile, cache: Cache, share: _Share, stop: Event) -> None:
    """Fetch one file; a part that it cannot be made whole from is given up, and fetched anew."""
    part = cache.part(wanted.sha256)
    for left in reversed(range(ATTEMPTS)):
        begun = part.exists()
        try:
            _append(wanted, part, share, stop)
            write_atomic(cache.path(wanted.sha256), _verified(wanted, part))
            part.unlink()
            return
        except http_client.TransferInterruptedError:
            if not left:
                raise
        except HashMismatchError:
            part.unlink(missing_ok=True)
            if not (left and begun):
                raise


def _append(wanted: RemoteFile, part: Path, share: _Share, stop: Event) -> None:
    """Fetch what is missing of `part`, by a range where the server knows ranges."""
    have = part.stat().st_size if part.exists() else 0
    if have >= wanted.size:  # whole, yet not verified: not to be trusted
        part.unlink()
        have = 0
    with http_client.get(wanted.url, {"Range": f"bytes={have}-"} if have else {}) as response:
        if response.status_code == 416:
            raise _not_as_signed(wanted, f"it has less than {have} bytes")
        http_client.raise_for_status(response)
        have = have if response.status_code == 206 else 0
        with part.open("ab" if have else "wb") as file:
            while have < wanted.size and (chunk := response.more(min(CHUNK, wanted.size - have))):
                if not have:
                    _check_begin(wanted, chunk, response)
                file.write(chunk)
                have += len(chunk)
                share.reach(have)
                if stop.is_set():
                    raise DownloadError(f"{wanted.name}: given up")
    if have < wanted.size:
        raise http_client.TransferInterruptedError(
            f"{wanted.name} is cut off: {have} of {wanted.size} bytes came from {http_client.display_url(wanted.url)}",
            hint=http_client.HINT_AGAIN,
        )


def _check_begin(wanted: RemoteFile, begin: bytes, response: http_client.Response) -> None:
    """Raise at once for what can only be another file."""
    if is_web_page(begin):
        raise HashMismatchError(
            f"{http_client.display_url(wanted.url)} is a web page, not a package of Debian's",
            hint=http_client.HINT_PORTAL,
        )
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and announced.lstrip("0") != str(wanted.size).lstrip("0"):
        raise _not_as_signed(wanted, f"it has {announced[:20]} bytes, and {wanted.size} are signed")


def _verified(wanted: RemoteFile, part: Path) -> bytes:
    content = part.read_bytes()
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise _not_as_signed(wanted, f"its hash is wrong; it begins with {content[:16]!r}")
    return content


def _not_as_signed(wanted: RemoteFile, why: str) -> HashMismatchError:
    return HashMismatchError(
        f"{wanted.name} is not what Debian signed, nothing was kept of it: {http_client.display_url(wanted.url)}",
        hint=HINT_MIRROR,
        details=why,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
