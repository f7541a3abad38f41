"""An ISO is fetched from a web server: whole and as announced, or not at all; a next try goes on."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b2d import web
from b2d.errors import Busy, DownloadFailed
from b2d.files import private_folder, write_whole
from b2d.iso9660 import is_web_page, read_volume
from b2d.ports import Progress, Reporter
from b2d.web import Pace, Patience

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 18
ATTEMPTS = 5  # each must have brought something, and the next goes on from there


@dataclass(frozen=True, slots=True)
class _Mark:
    """What tells whether the server still has the same file; both empty: it cannot be told."""

    etag: str = ""
    modified: str = ""

    @property
    def condition(self) -> str:
        """What to ask with If-Range; a weak etag does not promise the same bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


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
    def whole(self) -> Path:
        return self.folder / f"{self.stem}.iso"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.stem}.lock"

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)


def fetch(url: str, folder: Path, reporter: Reporter, *, sha256: str = "", patience: Patience | None = None) -> Path:
    """The file of `url`, whole, in `folder`; whoever takes it from there may remove it.

    Raises DownloadFailed, and Busy while another does the same; what the next call can go on from is kept
    then, nothing else. A Ctrl-C is as any other interruption.
    """
    place = _place_of(url, folder)
    with _on_disk(folder), _alone(place), _only_resumable(place):
        for left in reversed(range(ATTEMPTS)):
            had = _size(place.part)
            try:
                _transfer(url, place, reporter, patience or Patience())
                break
            except web.Interrupted as error:
                if not left or _size(place.part) <= had:
                    raise
                reporter.note(f"{error.message}; going on from {_mebibytes(_size(place.part))}")
        return _accept(url, place, sha256)


def _place_of(url: str, folder: Path) -> _Place:
    return _Place(folder, hashlib.sha256(url.encode()).hexdigest()[:32])


def _transfer(url: str, place: _Place, reporter: Reporter, patience: Patience) -> None:
    """Bring the part to its full size."""
    mark = _read_mark(place)
    had = _size(place.part) if mark.condition else 0
    headers = {"Range": f"bytes={had}-", "If-Range": mark.condition} if had else {}
    with web.answer(url, headers, read_s=patience.read_s) as response:
        if had and response.status_code == 416:  # nothing behind what is had: it is whole, or not of this file
            if response.headers.get("Content-Range") == f"bytes */{had}":
                return
            place.forget()
            raise web.Interrupted(f"{url} has become another file", hint=web.HINT_AGAIN)
        web.refuse(response)
        if not had or not _goes_on(response, had):
            had = 0
            _begin_anew(place, response)
        announced = response.headers.get("Content-Length", "")
        total = had + int(announced) if announced.isdecimal() else 0
        _check_space(place.folder, total - had)
        with _bar(reporter, url, had, total) as advance:
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
        if sha256:
            _check_hash(place.part, sha256)
    except DownloadFailed as error:
        place.forget()
        raise DownloadFailed(f"{url}: {error.message}", hint=error.hint or web.HINT_ADDRESS) from error
    place.part.replace(place.whole)
    place.mark.unlink(missing_ok=True)
    return place.whole


def _check_hash(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise DownloadFailed(f"this is not what was published: sha256 {found}, and {sha256} was promised")


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
def _alone(place: _Place) -> Iterator[None]:
    """One at a time grows the part; the kernel holds the lock."""
    from filelock import FileLock, Timeout

    private_folder(place.folder)
    lock = FileLock(place.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy("another b2d downloads the same", hint="try again when that has ended") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _only_resumable(place: _Place) -> Iterator[None]:
    """Keep no part that cannot be gone on from."""
    try:
        yield
    finally:
        if not _read_mark(place).condition:
            place.forget()


@contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "make room, then go on with the same command" if error.errno == errno.ENOSPC else ""
        raise DownloadFailed(f"{error.filename or folder}: {error.strerror or error}", hint=hint) from error


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadFailed(
            f"{folder} has {_mebibytes(free)} free, and {_mebibytes(needed)} ({needed} bytes) are to come",
            hint="make room, then go on with the same command",
        )


def _read_mark(place: _Place) -> _Mark:
    try:
        kept = json.loads(place.mark.read_bytes())
        return _Mark(str(kept["etag"]), str(kept["modified"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _Mark()


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
