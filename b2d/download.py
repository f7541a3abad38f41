"""An ISO is fetched from a web server: whole and as announced, or not at all; a next try goes on."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b2d import web
from b2d.errors import Busy, DownloadFailed
from b2d.files import FULL, check_room, no_room, private_folder, write_whole
from b2d.iso9660 import is_web_page, read_volume
from b2d.ports import Progress, Reporter
from b2d.web import Pace, Patience

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 18
ATTEMPTS = 5  # each must have brought something, and the next goes on from there
LOCK_WAIT_S = 1800.0


class Unchanged(Exception):
    """The server still has what was fetched last: nothing came."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """What tells whether the server still has the same file; both empty: it cannot be told."""

    etag: str = ""
    modified: str = ""

    @property
    def condition(self) -> str:
        """What to ask with If-Range; a weak etag does not promise the same bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    @property
    def unless_same(self) -> dict[str, str]:
        """What to ask for another file only with."""
        asked = {"If-None-Match": self.etag, "If-Modified-Since": "" if self.etag else self.modified}
        return {name: value for name, value in asked.items() if value}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a URL's file grows, and where it lies when it is whole."""

    folder: Path
    stem: str

    @property
    def part(self) -> Path:
        return self.folder / f"{self.stem}.part"

    @property
    def mark(self) -> Path:
        return self.folder / f"{self.stem}.mark"

    @property
    def last(self) -> Path:
        """The mark and the hash of what was fetched last."""
        return self.folder / f"{self.stem}.last"

    @property
    def whole(self) -> Path:
        return self.folder / f"{self.stem}.iso"

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)


@contextmanager
def alone(url: str, folder: Path, reporter: Reporter, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """One at a time fetches `url`, and takes away what came; the kernel holds the lock.

    The next one waits, and raises Busy when that is very long.
    """
    from filelock import FileLock, Timeout

    with _on_disk(folder):
        lock = FileLock(private_folder(folder) / f"{_place_of(url, folder).stem}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with reporter.step("waiting for another b2d that downloads the same"):
                try:
                    lock.acquire(timeout=wait_s)
                except Timeout:
                    raise Busy("another b2d downloads the same", hint="try again when that has ended") from None
    try:
        yield
    finally:
        lock.release()


def last(url: str, folder: Path) -> str:
    """The hash of what was fetched last, "" when that is not known."""
    return _read(_place_of(url, folder).last).get("sha256", "")


def fetch(
    url: str, folder: Path, reporter: Reporter, *, sha256: str = "", kept: str = "", patience: Patience | None = None
) -> Path:
    """The file of `url`, whole, in `folder`, from where it should be taken away; the caller is `alone`.

    Raises Unchanged when it still is what has the hash `kept`, and DownloadFailed: what the next call can go on
    from is kept then, nothing else. A Ctrl-C is as any other interruption.
    """
    place = _place_of(url, folder)
    with _on_disk(folder), _only_resumable(place):
        private_folder(folder)
        begun = _size(place.part)
        for left in reversed(range(ATTEMPTS)):
            had = _size(place.part)
            try:
                _transfer(url, place, reporter, patience or Patience(), kept)
                break
            except (web.Interrupted, web.Unanswered) as error:
                if left and _size(place.part) > had:
                    reporter.note(f"{error.message}; going on from {_mebibytes(_size(place.part))}")
                elif _size(place.part) > begun:  # it answered: there is something new
                    raise web.Interrupted(error.message, hint=error.hint, details=error.details) from error
                else:
                    raise
        return _accept(url, place, sha256)


def _place_of(url: str, folder: Path) -> _Place:
    return _Place(folder, hashlib.sha256(url.encode()).hexdigest()[:32])


def _transfer(url: str, place: _Place, reporter: Reporter, patience: Patience, kept: str) -> None:
    """Bring the part to its full size."""
    mark = _read_mark(place.mark)
    had = _size(place.part) if mark.condition else 0
    headers = {"Range": f"bytes={had}-", "If-Range": mark.condition} if had else {}
    if not had and kept and kept == _read(place.last).get("sha256"):
        headers = _read_mark(place.last).unless_same
    with web.answer(url, headers, read_s=patience.read_s) as response:
        if had and response.status_code == 416:  # nothing behind what is had: it is whole, or not of this file
            if response.headers.get("Content-Range") == f"bytes */{had}":
                return
            place.forget()
            raise web.Interrupted(f"{url} has become another file", hint=web.HINT_AGAIN)
        if response.status_code == 304 and headers and not had:
            raise Unchanged
        web.refuse(response)
        if not had or not _goes_on(response, had):
            had = 0
            _begin_anew(place, response)
        announced = response.headers.get("Content-Length", "")
        total = had + int(announced) if announced.isdecimal() else 0
        check_room(place.folder, total - had)
        with _bar(reporter, url, had, total) as advance, _until_full(place, total):
            _receive(response, place, patience, advance)
    if total and _size(place.part) != total:
        raise web.Interrupted(f"{url} ended after {_size(place.part)} of {total} bytes", hint=web.HINT_AGAIN)


def _goes_on(response: "requests.Response", had: int) -> bool:
    if response.status_code != 206:
        return False
    if not response.headers.get("Content-Range", "").startswith(f"bytes {had}-"):
        raise DownloadFailed(f"{response.url} answers with another part than was asked for", hint=web.HINT_AGAIN)
    return True


def _receive(response: "requests.Response", place: _Place, patience: Patience, advance: Callable[[int], None]) -> None:
    pace = Pace(patience, response.url)
    with place.part.open("ab") as file:
        while content := response.raw.read1(CHUNK):  # read1: a read would wait until all of it is there
            if file.tell() == 0 and is_web_page(content):
                place.forget()
                raise DownloadFailed(f"{response.url} is a web page, not an ISO image", hint=web.HINT_PORTAL)
            file.write(content)
            advance(len(content))
            pace.check(len(content))
        file.flush()
        os.fsync(file.fileno())


def _accept(url: str, place: _Place, sha256: str) -> Path:
    """Rename the part when it is what it should be; else remove it."""
    try:
        read_volume(place.part)
        found = _hash_of(place.part)
        if sha256 and found != sha256.lower():
            raise DownloadFailed(f"this is not what was published: sha256 {found}, and {sha256} was promised")
    except DownloadFailed as error:
        place.forget()
        raise DownloadFailed(f"{url}: {error.message}", hint=error.hint or web.HINT_ADDRESS) from error
    write_whole(place.last, json.dumps({**asdict(_read_mark(place.mark)), "sha256": found}).encode())
    place.part.replace(place.whole)
    place.mark.unlink(missing_ok=True)
    return place.whole


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
def _only_resumable(place: _Place) -> Iterator[None]:
    """Keep no part that cannot be gone on from."""
    try:
        yield
    finally:
        if not _read_mark(place.mark).condition:
            place.forget()


@contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadFailed(f"{error.filename or folder}: {error.strerror or error}") from error


@contextmanager
def _until_full(place: _Place, total: int) -> Iterator[None]:
    """Others write on the disk too: name what is missing when it is full after all."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise no_room(place.folder, max(0, total - _size(place.part))) from error


def _read(path: Path) -> dict[str, str]:
    """What was noted there; nothing where that cannot be read."""
    try:
        return {str(name): str(value) for name, value in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _read_mark(path: Path) -> _Mark:
    noted = _read(path)
    return _Mark(noted.get("etag", ""), noted.get("modified", ""))


def _begin_anew(place: _Place, response: "requests.Response") -> None:
    place.forget()
    mark = _Mark(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
    write_whole(place.mark, json.dumps(asdict(mark)).encode())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
