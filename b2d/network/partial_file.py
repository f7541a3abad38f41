"""A download on disk that is not complete: its partial file, and the HTTP validators of that file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from b2d.formats import json_text
from b2d.host.files import read_bounded, write_atomic


@dataclass(frozen=True, slots=True)
class CacheValidators:
    """The HTTP validators of a file; both empty where the server gives none."""

    etag: str = ""
    modified: str = ""

    @property
    def condition(self) -> str:
        """The value for If-Range, which a weak ETag cannot be: it does not promise the same bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    @property
    def conditional_headers(self) -> dict[str, str]:
        """The headers that request the file only if it has changed."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": "" if self.etag else self.modified}
        return {name: value for name, value in headers.items() if value}

    def differs(self, other: "CacheValidators") -> bool:
        """Return whether the validators certainly are of two files."""
        if self.etag and other.etag:
            return self.etag != other.etag
        return bool(self.modified and other.modified) and self.modified != other.modified


def validators_of(headers: Mapping[str, str]) -> CacheValidators:
    """Return the validators in a response's headers."""
    return CacheValidators(headers.get("ETag", ""), headers.get("Last-Modified", ""))


@dataclass(frozen=True, slots=True)
class PartialFile:
    """A file that a download has not completed, and beside it the validators by which it is resumed."""

    folder: Path
    name: str  # without a suffix

    @property
    def path(self) -> Path:
        """The partial file."""
        return self.folder / f"{self.name}.part"

    @property
    def size(self) -> int:
        """The size of the partial file in bytes."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def validators(self) -> CacheValidators:
        """The validators of the partial file."""
        return validators_of_record(read_record(self._record))

    def begin(self, validators: CacheValidators) -> None:
        """Replace the partial file by an empty one, and record its validators."""
        self.forget()
        write_atomic(self._record, json.dumps(asdict(validators)).encode())
        self.path.touch(0o600)

    def complete(self, target: Path) -> None:
        """Rename the partial file, which is complete, to `target`."""
        self.path.replace(target)
        self._record.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the partial file and its validators."""
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}.mark"


def read_record(path: Path) -> dict[str, str]:
    """Return the recorded values, none where they cannot be read."""
    try:
        return {str(name): str(value) for name, value in json_text.parse(read_bounded(path)).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def validators_of_record(record: dict[str, str]) -> CacheValidators:
    """Return the validators in a record, empty ones where it has none."""
    return CacheValidators(record.get("etag", ""), record.get("modified", ""))
