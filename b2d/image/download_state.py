"""The state of a download on disk: its partial file, the validators of that file, and the last download."""

import hashlib
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
class PartialDownload:
    """The files of one address's download."""

    folder: Path
    url: str

    @property
    def part(self) -> Path:
        """The partial file."""
        return self._file("part")

    @property
    def whole(self) -> Path:
        """The complete file."""
        return self._file("iso")

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self._file("lock")

    @property
    def size(self) -> int:
        """The size of the partial file in bytes."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def validators(self) -> CacheValidators:
        """The validators of the partial file."""
        return _validators(_read(self._file("mark")))

    def last(self) -> tuple[str, CacheValidators]:
        """Return the hash and the validators of the last complete download; empty for none."""
        record = _read(self._file("last"))
        return record.get("sha256", ""), _validators(record)

    def begin(self, validators: CacheValidators) -> None:
        """Remove the partial file and record the validators of a new one."""
        self.forget()
        write_atomic(self._file("mark"), json.dumps(asdict(validators)).encode())

    def end(self, sha256: str) -> None:
        """Turn the partial file, which is complete and has that hash, into the whole one."""
        write_atomic(self._file("last"), json.dumps({**asdict(self.validators), "sha256": sha256}).encode())
        self.part.replace(self.whole)
        self._file("mark").unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the partial file and its validators."""
        self.part.unlink(missing_ok=True)
        self._file("mark").unlink(missing_ok=True)

    def _file(self, kind: str) -> Path:
        return self.folder / f"{hashlib.sha256(self.url.encode()).hexdigest()[:32]}.{kind}"


def _read(path: Path) -> dict[str, str]:
    """Return the recorded values, none where they cannot be read."""
    try:
        return {str(name): str(value) for name, value in json_text.parse(read_bounded(path)).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _validators(record: dict[str, str]) -> CacheValidators:
    return CacheValidators(record.get("etag", ""), record.get("modified", ""))
