"""An ISO is fetched from a web server: whole and as announced, or not at all; a next try goes on."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from b2d.errors import DownloadError, MachineLockedError
from b2d.formats import numbers
from b2d.formats.iso9660 import announced_size, is_web_page, read_volume
from b2d.host.files import FULL, check_space, no_space_error, private_folder
from b2d.image.download_state import PartialDownload, validators_of
from b2d.network import http_client
from b2d.network.http_client import Response, display_url
from b2d.network.http_watch import TransferTimeouts
from b2d.reporting.base import Progress, Reporter

CHUNK = 1 << 18
ATTEMPTS = 5  # each must have brought something, and the next goes on from there
LOCK_WAIT_S = 1800.0
BEHIND_NOTICE = 64 << 20  # bytes that may follow the image that the ISO's own header announces
ISO_LIMIT = 8 << 30  # bytes; no ISO for a machine of this kind comes near


class UnchangedError(Exception):
    """The server still has what was fetched last: nothing came."""


@contextmanager
def download_lock(url: str, folder: Path, reporter: Reporter, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """One at a time fetches `url`, and takes away what came; the kernel holds the lock.

    The next one waits, and raises MachineLockedError when that is very long.
    """
    from filelock import FileLock, Timeout

    with _on_disk(folder):
        lock = FileLock(PartialDownload(private_folder(folder), url).lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with reporter.step("waiting for another b2d that downloads the same"):
                try:
                    lock.acquire(timeout=wait_s)
                except Timeout:
                    raise MachineLockedError(
                        "another b2d downloads the same", hint="try again when that has ended"
                    ) from None
    try:
        yield
    finally:
        lock.release()


def last_download(url: str, folder: Path) -> str:
    """The hash of what was fetched last, "" when that is not known."""
    return PartialDownload(folder, url).last()[0]


def download(
    url: str,
    folder: Path,
    reporter: Reporter,
    *,
    sha256: str = "",
    kept: str = "",
    patience: TransferTimeouts | None = None,
) -> Path:
    """The file of `url`, whole, in `folder`, from where it should be taken away; the caller is `alone`.

    Raises Unchanged when it still is what has the hash `kept`, and DownloadError: what the next call can go on
    from is kept then, nothing else. A Ctrl-C is as any other interruption.
    """
    place = PartialDownload(folder, url)
    with _on_disk(folder), _only_resumable(place):
        private_folder(folder)
        begun = place.size
        for left in reversed(range(ATTEMPTS)):
            had = place.size
            try:
                _transfer(url, place, reporter, patience or TransferTimeouts(), kept)
                break
            except (http_client.TransferInterruptedError, http_client.ServerUnavailableError) as error:
                if left and place.size > had:
                    reporter.note(f"{error.message}; going on from {_mebibytes(place.size)}")
                elif place.size > begun:  # it answered: there is something new
                    raise http_client.TransferInterruptedError(
                        error.message, hint=error.hint, details=error.details
                    ) from error
                else:
                    raise
        return _accept(url, place, sha256)


def _transfer(url: str, place: PartialDownload, reporter: Reporter, patience: TransferTimeouts, kept: str) -> None:
    """Bring the part to its full size."""
    condition, (last_hash, last_mark) = place.mark.condition, place.last()
    had = place.size if condition else 0
    headers = {"Range": f"bytes={had}-", "If-Range": condition} if had else {}
    if not had and kept and kept == last_hash:
        headers = last_mark.conditional_headers
    with http_client.get(url, headers, patience=patience) as response:
        if had and response.status_code == 416:  # nothing behind what is had: it is whole, or not of this file
            if response.headers.get("Content-Range") == f"bytes */{had}":
                return
            place.forget()
            raise http_client.TransferInterruptedError(
                f"{display_url(url)} has become another file", hint=http_client.HINT_AGAIN
            )
        if response.status_code == 304 and headers and not had:
            raise UnchangedError
        http_client.raise_for_status(response)
        if not had or not _is_continuation(response, had, place):
            had = 0
            place.begin(validators_of(response.headers))
        total = _total(response, place)
        check_space(place.folder, total - had)
        with _bar(reporter, url, had, total) as advance, _until_full(place, total):
            _receive(response, place, advance)
    if total and place.size != total:
        raise http_client.TransferInterruptedError(
            f"{display_url(url)} ended after {place.size} of {total} bytes", hint=http_client.HINT_AGAIN
        )


def _is_continuation(response: Response, had: int, place: PartialDownload) -> bool:
    """True for what comes behind what is had; not all servers heed If-Range."""
    if response.status_code != 206:
        return False
    if place.mark.differs(validators_of(response.headers)):
        place.forget()
        raise http_client.TransferInterruptedError(
            f"{display_url(response.url)} has become another file", hint=http_client.HINT_AGAIN
        )
    if not response.headers.get("Content-Range", "").startswith(f"bytes {had}-"):
        place.forget()
        raise DownloadError(
            f"{display_url(response.url)} answers with another part than was asked for", hint=http_client.HINT_AGAIN
        )
    return True


def _total(response: Response, place: PartialDownload) -> int:
    """The size of the whole file, 0 where it is not told. Raises DownloadError for one that no ISO has."""
    told = response.headers.get("Content-Length", "")
    if response.status_code == 206:
        told = response.headers.get("Content-Range", "").rpartition("/")[2]
    if not (told.isascii() and told.isdigit()):
        return 0
    try:
        return numbers.parse(told, ISO_LIMIT)
    except ValueError as error:
        place.forget()
        said = f"{display_url(response.url)} announces {told[:20]} bytes, which no ISO image has"
        raise DownloadError(said, hint=http_client.HINT_ADDRESS) from error


def _receive(response: Response, place: PartialDownload, advance: Callable[[int], None]) -> None:
    total, size = _total(response, place), 0
    with place.part.open("ab") as file:
        while content := response.more(CHUNK):
            file.write(content)
            if not size:
                file.flush()
                size = _announced(response.url, place)
            if max(total, file.tell()) > min(size + BEHIND_NOTICE, ISO_LIMIT) and (size or file.tell() > BEHIND_NOTICE):
                place.forget()
                said = f"{display_url(response.url)} does not end where the ISO image in it does"
                raise DownloadError(said, hint=http_client.HINT_ADDRESS)
            advance(len(content))
        file.flush()
        os.fsync(file.fileno())


def _announced(url: str, place: PartialDownload) -> int:
    """How large the image says that it is, 0 before it does. What is something else is not waited for."""
    with _kept_if_sound(url, place):
        with place.part.open("rb") as file:
            if is_web_page(file.read(CHUNK)):
                raise DownloadError("this is a web page, not an ISO image", hint=http_client.HINT_PORTAL)
        return announced_size(place.part)


def _accept(url: str, place: PartialDownload, sha256: str) -> Path:
    """Rename the part when it is what it should be; else remove it."""
    with _kept_if_sound(url, place):
        read_volume(place.part)
        found = _hash_of(place.part)
        if sha256 and found != sha256.lower():
            raise DownloadError(f"this is not what was published: sha256 {found}, and {sha256} was promised")
    place.end(found)
    return place.whole


@contextmanager
def _kept_if_sound(url: str, place: PartialDownload) -> Iterator[None]:
    try:
        yield
    except DownloadError as error:
        place.forget()
        raise DownloadError(
            f"{display_url(url)}: {error.message}", hint=error.hint or http_client.HINT_ADDRESS
        ) from error


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _bar(reporter: Reporter, url: str, had: int, total: int) -> Iterator[Callable[[int], None]]:
    """A bar where the size is known, else a step."""
    name = url.partition("?")[0].rstrip("/").rpartition("/")[2] or url
    if not total:
        with reporter.step(f"download {name}"):
            yield lambda _amount: None
        return
    progress: Progress
    with reporter.progress(f"download {name}", total) as progress:
        progress.advance(had)
        yield progress.advance


@contextmanager
def _only_resumable(place: PartialDownload) -> Iterator[None]:
    """Keep no part that cannot be gone on from."""
    try:
        yield
    finally:
        if not place.mark.condition:
            place.forget()


@contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(f"{error.filename or folder}: {error.strerror or error}") from error


@contextmanager
def _until_full(place: PartialDownload, total: int) -> Iterator[None]:
    """Others write on the disk too: name what is missing when it is full after all."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise no_space_error(place.folder, max(0, total - place.size)) from error


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
