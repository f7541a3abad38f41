"""Download a file over as many attempts as it takes: resumed where it ended, bounded, and verified at the end."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from b2d.errors import DownloadError, MachineLockedError
from b2d.formats import numbers
from b2d.host.files import FULL, check_space, no_space_error, private_folder
from b2d.network import http_client
from b2d.network.http_client import Response, display_url
from b2d.network.http_watch import TransferTimeouts
from b2d.network.partial_file import PartialFile, validators_of
from b2d.reporting.base import Reporter

CHUNK = 1 << 18  # bytes
ATTEMPTS = 5
IDLE_ATTEMPTS = 3  # attempts in a row that brought nothing new
BEGINNING = 1 << 20  # bytes by which the content of a file is judged while it arrives
LARGEST = 1 << 62  # bytes; stands for any size that is not a number of bytes

T = TypeVar("T")
Show = Callable[[int, int], AbstractContextManager[Callable[[int], None]]]


class UnchangedError(Exception):
    """The server still has the file of the last download, and sent nothing."""


class WrongContentError(DownloadError):
    """The server has another file than the expected one; what came is removed."""


class ExpectedFile(Protocol):
    """A file on a web server, and the properties by which it is accepted."""

    @property
    def url(self) -> str:
        """The address."""

    def size_limit(self, path: Path, announced: int) -> int:
        """Return how many bytes the file may have, judged by its beginning and the announced size, 0 for none.

        Raises WrongContentError for another file than the expected one.
        """

    def verify(self, path: Path) -> None:
        """Raise WrongContentError unless the complete file is the expected one."""


@contextmanager
def download_lock(path: Path, subject: str, reporter: Reporter, *, wait_s: float) -> Iterator[None]:
    """Hold the lock under which `subject` is downloaded and the result taken; the kernel releases it at exit.

    Waits for another b2d, and raises MachineLockedError after `wait_s` seconds.
    """
    from filelock import FileLock, Timeout

    with os_errors_as_download_errors(path.parent):
        lock = FileLock(private_folder(path.parent) / path.name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with reporter.step(f"waiting for another b2d to download {subject}"):
                try:
                    lock.acquire(timeout=wait_s)
                except Timeout:
                    raise MachineLockedError(
                        f"another b2d is downloading {subject}", hint="try again when it has finished"
                    ) from None
    try:
        yield
    finally:
        lock.release()


def download(
    expected: ExpectedFile,
    partial: PartialFile,
    show: Show,
    *,
    headers: Mapping[str, str] | None = None,
    on_retry: Callable[[str], None] = lambda _: None,
    timeouts: TransferTimeouts | None = None,
) -> None:
    """Download a file until `partial` is complete and verified; the caller holds a lock.

    `show(offset, total)` shows the progress of an attempt: it yields a function that takes the number of each further
    bytes; `total` is 0 where unknown. `headers` make a request for the whole file conditional. Raises UnchangedError
    when the server says so, and DownloadError. After an interruption, Ctrl-C included, only a partial file that the
    next call can resume is left.
    """

    def attempt() -> None:
        _transfer(expected, partial, show, headers or {}, timeouts)

    def run() -> None:
        with _kept_if_resumable(partial):
            retry_interrupted(attempt, lambda: partial.size, on_retry)
            expected.verify(partial.path)

    with os_errors_as_download_errors(partial.folder):
        private_folder(partial.folder)
        is_resumed = partial.size > 0
        try:
            run()
        except WrongContentError:
            if not is_resumed:
                raise
            run()  # the beginning may be at fault, which an earlier call left


def retry_interrupted(
    attempt: Callable[[], T], position: Callable[[], int] = lambda: 0, on_retry: Callable[[str], None] = lambda _: None
) -> T:
    """Return the result of `attempt`, which is repeated after an interruption while repeating makes sense.

    That is while it advances `position`, and a few times where the server answers. Raises DownloadError.
    """
    initial, idle = position(), 0
    for left in reversed(range(ATTEMPTS)):
        before = position()
        try:
            return attempt()
        except (http_client.TransferInterruptedError, http_client.ServerUnavailableError) as error:
            has_advanced = position() > before
            idle = 0 if has_advanced else idle + 1
            if left and (has_advanced or (_has_answered(error) and idle < IDLE_ATTEMPTS)):
                on_retry(error.message)
            elif position() > initial:  # the server sent something: another call may succeed
                raise http_client.TransferInterruptedError(
                    error.message, hint=error.hint, details=error.details
                ) from error
            else:
                raise
    raise AssertionError("the last attempt returns or raises")


def _has_answered(error: DownloadError) -> bool:
    """Return whether the error came from a server that can be reached, and that asks for no pause."""
    is_interruption = isinstance(error, http_client.TransferInterruptedError)
    return is_interruption and not isinstance(error, http_client.ServerTimeoutError)


def _transfer(
    expected: ExpectedFile,
    partial: PartialFile,
    show: Show,
    headers: Mapping[str, str],
    timeouts: TransferTimeouts | None,
) -> None:
    """Append the rest of the file to the partial file."""
    url, condition = expected.url, partial.validators.condition
    offset = partial.size if condition else 0
    if offset:
        headers = {"Range": f"bytes={offset}-", "If-Range": condition}
    with http_client.get(url, headers, timeouts=timeouts) as response:
        if offset and response.status_code == 416:  # nothing follows: the file is complete, or another one
            if response.headers.get("Content-Range") == f"bytes */{offset}":
                return
            raise _discard_changed(url, partial)
        if response.status_code == 304 and headers and not offset:
            raise UnchangedError
        http_client.raise_for_status(response)
        if not offset or not _is_continuation(response, offset, partial):
            offset = 0
            partial.begin(validators_of(response.headers))
        total = _announced_size(response)
        check_space(partial.folder, min(total, expected.size_limit(partial.path, total)) - offset)
        with show(offset, total) as advance, _translated_full_disk(partial, total):
            _receive(response, partial, lambda: expected.size_limit(partial.path, total), advance)
    if total and partial.size != total:
        raise http_client.TransferInterruptedError(
            f"{display_url(url)} ended after {partial.size} of {total} bytes", hint=http_client.HINT_AGAIN
        )


def _is_continuation(response: Response, offset: int, partial: PartialFile) -> bool:
    """Return whether the response continues the partial file; not all servers honour If-Range."""
    if response.status_code != 206:
        return False
    if partial.validators.differs(validators_of(response.headers)):
        raise _discard_changed(response.url, partial)
    if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        raise WrongContentError(
            f"{display_url(response.url)} sent another range than the one requested", hint=http_client.HINT_AGAIN
        )
    return True


def _discard_changed(url: str, partial: PartialFile) -> DownloadError:
    """Remove a partial file that is of another file than the server's; return the error that says so."""
    partial.forget()
    return http_client.TransferInterruptedError(
        f"{display_url(url)} has changed during the download", hint=http_client.HINT_AGAIN
    )


def _announced_size(response: Response) -> int:
    """Return the announced size of the whole file, 0 for none, LARGEST for one that cannot be."""
    length = response.headers.get("Content-Length", "")
    if response.status_code == 206:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    if not (length.isascii() and length.isdigit()):
        return 0
    try:
        return numbers.parse(length, LARGEST)
    except ValueError:
        return LARGEST


def _receive(
    response: Response, partial: PartialFile, size_limit: Callable[[], int], advance: Callable[[int], None]
) -> None:
    with partial.path.open("ab") as file:
        limit = size_limit()
        while content := response.read_some(CHUNK):
            file.write(content)
            if file.tell() - len(content) < BEGINNING:
                file.flush()
                limit = size_limit()
            if file.tell() > limit:
                raise WrongContentError(
                    f"{display_url(response.url)} sends more bytes than the file has", hint=http_client.HINT_ADDRESS
                )
            advance(len(content))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _kept_if_resumable(partial: PartialFile) -> Iterator[None]:
    """Remove at a failure a partial file that is of the wrong file, or cannot be resumed."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, WrongContentError) or not partial.validators.condition:
            partial.forget()
        raise


@contextmanager
def os_errors_as_download_errors(folder: Path) -> Iterator[None]:
    """Translate an OSError to a DownloadError with the file's name, by default `folder`."""
    try:
        yield
    except OSError as error:
        raise DownloadError(f"{error.filename or folder}: {error.strerror or error}") from error


@contextmanager
def _translated_full_disk(partial: PartialFile, total: int) -> Iterator[None]:
    """Report a full disk with the missing size: other programs write to it too."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise no_space_error(partial.folder, max(0, total - partial.size)) from error
