"""Download an ISO from a web server, complete and as announced, or not at all; a next attempt resumes."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from b2d.errors import DownloadError, ImageError, MachineLockedError
from b2d.formats import numbers
from b2d.formats.iso9660 import announced_size, is_web_page, read_volume
from b2d.host.files import FULL, check_space, no_space_error, private_folder
from b2d.image.boot_files import IMAGE_LIMIT
from b2d.image.download_state import PartialDownload, validators_of
from b2d.network import http_client
from b2d.network.http_client import Response, display_url
from b2d.network.http_watch import TransferTimeouts
from b2d.reporting.base import Progress, Reporter

CHUNK = 1 << 18
ATTEMPTS = 5  # each must bring some bytes; the next resumes after them
LOCK_WAIT_S = 1800.0
TRAILING_LIMIT = 64 << 20  # bytes that may follow the size in the ISO's own header


class UnchangedError(Exception):
    """The server still has the file of the last download, and sent nothing."""


@contextmanager
def download_lock(url: str, folder: Path, reporter: Reporter, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock under which `url` is downloaded and the result taken; the kernel releases it at exit.

    Waits for another b2d, and raises MachineLockedError after `wait_s` seconds.
    """
    from filelock import FileLock, Timeout

    with _translated_os_errors(folder):
        lock = FileLock(PartialDownload(private_folder(folder), url).lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with reporter.step("waiting for another b2d to download the same file"):
                try:
                    lock.acquire(timeout=wait_s)
                except Timeout:
                    raise MachineLockedError(
                        "another b2d is downloading the same file", hint="try again when it has finished"
                    ) from None
    try:
        yield
    finally:
        lock.release()


def last_download(url: str, folder: Path) -> str:
    """Return the hash of the last download of an address, "" for none."""
    return PartialDownload(folder, url).last()[0]


def download(
    url: str,
    folder: Path,
    reporter: Reporter,
    *,
    sha256: str = "",
    stored: str = "",
    timeouts: TransferTimeouts | None = None,
) -> Path:
    """Download `url` into `folder` and return the file, for the caller to move away; it holds download_lock.

    Raises UnchangedError when the server still has the file with the hash `stored`, and DownloadError. After an
    interruption, Ctrl-C included, only a partial download that the next call can resume is kept.
    """
    partial = PartialDownload(folder, url)
    with _translated_os_errors(folder), _kept_if_resumable(partial):
        private_folder(folder)
        size_at_start = partial.size
        for left in reversed(range(ATTEMPTS)):
            size_before = partial.size
            try:
                _transfer(url, partial, reporter, timeouts or TransferTimeouts(), stored)
                break
            except (http_client.TransferInterruptedError, http_client.ServerUnavailableError) as error:
                if left and partial.size > size_before:
                    reporter.note(f"{error.message}; resuming at {_mebibytes(partial.size)}")
                elif partial.size > size_at_start:  # the server answered: another attempt may succeed
                    raise http_client.TransferInterruptedError(
                        error.message, hint=error.hint, details=error.details
                    ) from error
                else:
                    raise
        return _accept(url, partial, sha256)


def _transfer(url: str, partial: PartialDownload, reporter: Reporter, timeouts: TransferTimeouts, stored: str) -> None:
    """Download the rest of the file into the part."""
    condition, (last_hash, last_mark) = partial.validators.condition, partial.last()
    offset = partial.size if condition else 0
    headers = {"Range": f"bytes={offset}-", "If-Range": condition} if offset else {}
    if not offset and stored and stored == last_hash:
        headers = last_mark.conditional_headers
    with http_client.get(url, headers, timeouts=timeouts) as response:
        if offset and response.status_code == 416:  # nothing follows: the part is complete, or of another file
            if response.headers.get("Content-Range") == f"bytes */{offset}":
                return
            partial.forget()
            raise http_client.TransferInterruptedError(
                f"{display_url(url)} has changed during the download", hint=http_client.HINT_AGAIN
            )
        if response.status_code == 304 and headers and not offset:
            raise UnchangedError
        http_client.raise_for_status(response)
        if not offset or not _is_continuation(response, offset, partial):
            offset = 0
            partial.begin(validators_of(response.headers))
        total = _total(response, partial)
        check_space(partial.folder, total - offset)
        with _show_progress(reporter, url, offset, total) as advance, _translated_full_disk(partial, total):
            _receive(response, partial, advance)
    if total and partial.size != total:
        raise http_client.TransferInterruptedError(
            f"{display_url(url)} ended after {partial.size} of {total} bytes", hint=http_client.HINT_AGAIN
        )


def _is_continuation(response: Response, offset: int, partial: PartialDownload) -> bool:
    """Return whether the response continues the part; not all servers honour If-Range."""
    if response.status_code != 206:
        return False
    if partial.validators.differs(validators_of(response.headers)):
        partial.forget()
        raise http_client.TransferInterruptedError(
            f"{display_url(response.url)} has changed during the download", hint=http_client.HINT_AGAIN
        )
    if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        partial.forget()
        raise DownloadError(
            f"{display_url(response.url)} sent another range than the one requested", hint=http_client.HINT_AGAIN
        )
    return True


def _total(response: Response, partial: PartialDownload) -> int:
    """Return the size of the whole file, 0 where unknown. Raises DownloadError for one beyond any ISO."""
    length = response.headers.get("Content-Length", "")
    if response.status_code == 206:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    if not (length.isascii() and length.isdigit()):
        return 0
    try:
        return numbers.parse(length, IMAGE_LIMIT)
    except ValueError as error:
        partial.forget()
        message = f"{display_url(response.url)} announces {length[:20]} bytes, too many for an ISO image"
        raise DownloadError(message, hint=http_client.HINT_ADDRESS) from error


def _receive(response: Response, partial: PartialDownload, advance: Callable[[int], None]) -> None:
    total, size = _total(response, partial), 0
    with partial.part.open("ab") as file:
        while content := response.read_some(CHUNK):
            file.write(content)
            if not size:
                file.flush()
                size = _announced_size(response.url, partial)
            if max(total, file.tell()) > min(size + TRAILING_LIMIT, IMAGE_LIMIT) and (
                size or file.tell() > TRAILING_LIMIT
            ):
                partial.forget()
                message = f"{display_url(response.url)} sends more bytes than the ISO image has"
                raise DownloadError(message, hint=http_client.HINT_ADDRESS)
            advance(len(content))
        file.flush()
        os.fsync(file.fileno())


def _announced_size(url: str, partial: PartialDownload) -> int:
    """Return the size in the ISO's own header, 0 before that has come; any other file is refused at once."""
    with _discarded_if_wrong(url, partial):
        with partial.part.open("rb") as file:
            if is_web_page(file.read(CHUNK)):
                raise DownloadError("this is a web page, not an ISO image", hint=http_client.HINT_PORTAL)
        return announced_size(partial.part)


def _accept(url: str, partial: PartialDownload, sha256: str) -> Path:
    """Rename the part to the whole file when it is the expected one; else remove it."""
    with _discarded_if_wrong(url, partial):
        read_volume(partial.part)
        actual = _hash_of(partial.part)
        if sha256 and actual != sha256.lower():
            raise DownloadError(f"the file has the sha256 {actual}, but {sha256} was published")
    partial.end(actual)
    return partial.whole


@contextmanager
def _discarded_if_wrong(url: str, partial: PartialDownload) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        partial.forget()
        raise DownloadError(
            f"{display_url(url)}: {error.message}", hint=error.hint or http_client.HINT_ADDRESS
        ) from error


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _show_progress(reporter: Reporter, url: str, offset: int, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar where the size is known, else a step."""
    name = url.partition("?")[0].rstrip("/").rpartition("/")[2] or url
    if not total:
        with reporter.step(f"download {name}"):
            yield lambda _amount: None
        return
    progress: Progress
    with reporter.progress(f"download {name}", total) as progress:
        progress.advance(offset)
        yield progress.advance


@contextmanager
def _kept_if_resumable(partial: PartialDownload) -> Iterator[None]:
    """Remove at the end a part that cannot be resumed."""
    try:
        yield
    finally:
        if not partial.validators.condition:
            partial.forget()


@contextmanager
def _translated_os_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(f"{error.filename or folder}: {error.strerror or error}") from error


@contextmanager
def _translated_full_disk(partial: PartialDownload, total: int) -> Iterator[None]:
    """Report a full disk with the missing size: other programs write to it too."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise no_space_error(partial.folder, max(0, total - partial.size)) from error


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
