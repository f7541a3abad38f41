"""What has come of a download so far, on disk: its part, what tells that file from another, what came last time."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from b2d.formats import json_text
from b2d.host.files import read_bounded, write_atomic


@dataclass(frozen=True, slots=True)
class CacheValidators:
    """What tells whether a server still has the same file; both empty: it cannot be told."""

    etag: str = ""
    modified: str = ""

    @property
    def condition(self) -> str:
        """What to ask with If-Range; a weak etag does not promise the same bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    @property
    def conditional_headers(self) -> dict[str, str]:
        """What to ask for another file only with."""
        asked = {"If-None-Match": self.etag, "If-Modified-Since": "" if self.etag else self.modified}
        return {name: value for name, value in asked.items() if value}

    def differs(self, other: "CacheValidators") -> bool:
        """True when they are certainly of two files."""
        if self.etag and other.etag:
            return self.etag != other.etag
        return bool(self.modified and other.modified) and self.modified != other.modified


def validators_of(headers: Mapping[str, str]) -> CacheValidators:
    """What a server says of the file that it sends."""
    return CacheValidators(headers.get("ETag", ""), headers.get("Last-Modified", ""))


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """Where a URL's file grows, and where it lies when it is whole."""

    folder: Path
    url: str

    @property
    def part(self) -> Path:
        return self._file("part")

    @property
    def whole(self) -> Path:
        return self._file("iso")

    @property
    def lock(self) -> Path:
        return self._file("lock")

    @property
    def size(self) -> int:
        """How much of it is here."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def mark(self) -> CacheValidators:
        """Of the part."""
        return _mark(_read(self._file("mark")))

    def last(self) -> tuple[str, CacheValidators]:
        """The hash and the mark of what was whole last; empty where there was nothing."""
        noted = _read(self._file("last"))
        return noted.get("sha256", ""), _mark(noted)

    def begin(self, mark: CacheValidators) -> None:
        """Forget what is here: another file comes."""
        self.forget()
        write_atomic(self._file("mark"), json.dumps(asdict(mark)).encode())

    def end(self, sha256: str) -> None:
        """The part is whole, and has that hash."""
        write_atomic(self._file("last"), json.dumps({**asdict(self.mark), "sha256": sha256}).encode())
        self.part.replace(self.whole)
        self._file("mark").unlink(missing_ok=True)

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self._file("mark").unlink(missing_ok=True)

    def _file(self, kind: str) -> Path:
        return self.folder / f"{hashlib.sha256(self.url.encode()).hexdigest()[:32]}.{kind}"


def _read(path: Path) -> dict[str, str]:
    """What was noted there; nothing where that cannot be read."""
    try:
        return {str(name): str(value) for name, value in json_text.parse(read_bounded(path)).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _mark(noted: dict[str, str]) -> CacheValidators:
    return CacheValidators(noted.get("etag", ""), noted.get("modified", ""))
