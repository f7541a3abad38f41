"""Download an ISO from a web server, complete and as announced, or not at all; a next attempt resumes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from b2d.errors import ImageError
from b2d.formats.iso9660 import announced_size, is_web_page, read_volume
from b2d.host.files import hash_of, write_atomic
from b2d.image.boot_files import IMAGE_LIMIT
from b2d.network import download as transfers
from b2d.network import http_client
from b2d.network.download import WrongContentError
from b2d.network.http_client import display_url
from b2d.network.http_watch import TransferTimeouts
from b2d.network.partial_file import CacheValidators, PartialFile, read_record, validators_of_record
from b2d.reporting.base import Progress, Reporter

LOCK_WAIT_S = 1800.0
TRAILING_LIMIT = 64 << 20  # bytes that may follow the size in the ISO's own header
START = 4096  # bytes by which a web page is recognized


@dataclass(frozen=True, slots=True)
class IsoDownload:
    """The files of an address in the cache."""

    url: str
    folder: Path

    @property
    def partial(self) -> PartialFile:
        """The file while it is not complete."""
        return PartialFile(self.folder, self._name)

    @property
    def iso(self) -> Path:
        """The complete file."""
        return self._file("iso")

    def lock(self, reporter: Reporter, *, wait_s: float = LOCK_WAIT_S) -> AbstractContextManager[None]:
        """Hold the lock under which the address is downloaded and the result taken. Raises MachineLockedError."""
        return transfers.download_lock(self._file("lock"), "the same file", reporter, wait_s=wait_s)

    def last(self) -> tuple[str, CacheValidators]:
        """Return the hash and the validators of the last complete download; empty for none."""
        record = read_record(self._file("last"))
        return record.get("sha256", ""), validators_of_record(record)

    def run(
        self, reporter: Reporter, *, sha256: str = "", stored: str = "", timeouts: TransferTimeouts | None = None
    ) -> Path:
        """Download the ISO and return the file, for the caller to move away; it holds the lock.

        Raises UnchangedError when the server still has the file with the hash `stored`, and DownloadError. After an
        interruption, Ctrl-C included, only a partial file that the next call can resume is kept.
        """
        partial, (last_hash, last_validators) = self.partial, self.last()
        is_stored = bool(stored) and stored == last_hash
        transfers.download(
            _ExpectedIso(self.url, sha256.lower()),
            partial,
            lambda offset, total: _show_progress(reporter, self.url, offset, total),
            headers=last_validators.conditional_headers if is_stored else {},
            on_retry=lambda message: reporter.note(f"{message}; {_continuation(partial.size)}"),
            timeouts=timeouts,
        )
        with transfers.os_errors_as_download_errors(self.folder):
            record = {**asdict(partial.validators), "sha256": sha256.lower() or hash_of(partial.path)}
            write_atomic(self._file("last"), json.dumps(record).encode())
            partial.complete(self.iso)
        return self.iso

    @property
    def _name(self) -> str:
        return hashlib.sha256(self.url.encode()).hexdigest()[:32]

    def _file(self, kind: str) -> Path:
        return self.folder / f"{self._name}.{kind}"


@dataclass(frozen=True, slots=True)
class _ExpectedIso:
    """An ISO image with the published hash, "" for none."""

    url: str
    sha256: str

    def size_limit(self, path: Path, announced: int) -> int:
        """Return the limit by the size in the ISO's own header; see ExpectedFile."""
        if announced > IMAGE_LIMIT:
            message = f"{display_url(self.url)} announces {announced} bytes, too many for an ISO image"
            raise WrongContentError(message, hint=http_client.HINT_ADDRESS)
        with self._translated_errors():
            with path.open("rb") as file:
                if is_web_page(file.read(START)):
                    raise ImageError("this is a web page, not an ISO image", hint=http_client.HINT_PORTAL)
            size = announced_size(path)
            if not path.stat().st_size:
                return IMAGE_LIMIT  # until there is something to judge by
        limit = min(size + TRAILING_LIMIT, IMAGE_LIMIT)
        if size and announced > limit:
            message = f"{display_url(self.url)} sends more bytes than the ISO image has"
            raise WrongContentError(message, hint=http_client.HINT_ADDRESS)
        return limit

    def verify(self, path: Path) -> None:
        """Check that the ISO is complete, and its hash; see ExpectedFile."""
        with self._translated_errors():
            read_volume(path)
            actual = hash_of(path)
            if self.sha256 and actual != self.sha256:
                raise ImageError(f"the file has the sha256 {actual}, but {self.sha256} was published")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            raise WrongContentError(
                f"{display_url(self.url)}: {error.message}", hint=error.hint or http_client.HINT_ADDRESS
            ) from error


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


def _continuation(size: int) -> str:
    """Return how the next attempt begins, for a message; `size` is that of the partial file in bytes."""
    return f"resuming at {size / (1 << 20):.1f} MiB" if size else "starting again"
