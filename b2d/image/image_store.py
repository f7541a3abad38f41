"""The images of a home, each stored under its own hash with a record beside it."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from b2d.errors import B2dError, ImageError, MachineLockedError
from b2d.formats import json_text, numbers, suites
from b2d.formats.iso9660 import read_volume
from b2d.host import file_removal
from b2d.host.files import check_owner, os_errors_as_b2d_errors, private_folder, read_bounded, write_atomic
from b2d.image import boot_files
from b2d.image.boot_files import MAX_PART_SIZE, Content, Part, Stamp, extent_of, part_of
from b2d.models import Extent, Image, Suite
from b2d.paths import Home, ImagePaths

FORMAT = 2
LOCK_WAIT_S = 120.0  # storing an image takes seconds
LEFTOVER_AGE_S = 3600.0
HINT = "b2d download"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """The content of <sha256>.json; `sources` maps each source to the time of storing (Unix time)."""

    version: str
    size: int
    sources: dict[str, float]
    kernel: Part | None = None
    initrd: Part | None = None
    arguments: str = ""
    root: Extent | None = None
    root_sha256: str = ""  # of the root file system; "": unknown
    stored: Part | None = None
    suites: tuple[Suite, ...] = ()
    format: int = field(default=FORMAT)


@dataclass(frozen=True, slots=True)
class ImageStore:
    """The folder images/ of a home. Readers never wait; writers hold the folder's lock."""

    home: Home

    def all(self) -> list[Image]:
        """Return each image once, under the source of its last storing; newest first."""
        entries = [(max(record.sources.values()), sha256, record) for sha256, record in self._records()]
        entries.sort(key=lambda entry: entry[:2], reverse=True)
        return [self._image(sha256, record) for _, sha256, record in entries]

    def find(self, source: str) -> Image | None:
        """Return the newest stored image of a source, or None."""
        entries = [
            (record.sources[source], sha256, record) for sha256, record in self._records() if source in record.sources
        ]
        if not entries:
            return None
        _, sha256, record = max(entries, key=lambda entry: entry[:2])
        return self._image(sha256, record, source)

    def get(self, sha256: str) -> Image:
        """Return the image of a hash. Raises B2dError when it is not stored."""
        record = _read_record(self.home.image(sha256))
        if record is None:
            raise B2dError(f"the image {sha256[:12]} is no longer stored", hint=HINT)
        return self._image(sha256, record)

    def get_intact(self, sha256: str) -> Image | None:
        """Return the image of a hash, or None where it is not stored, or damaged."""
        try:
            image = self.get(sha256)
            self.verify(image)
        except B2dError:
            return None
        return image

    def add_copy(self, iso: Path, source: str, version: str = "") -> Image:
        """Store a copy of `iso` as the newest image of `source`; repeating it is harmless.

        `version` is its version where it was published: not every label has one. Raises ImageError unless it is a
        complete ISO image, and B2dError where the home cannot be written; nothing is stored then.
        """
        return self._add(iso, source, version, boot_files.copy)

    def add_move(self, iso: Path, source: str, version: str = "") -> Image:
        """Store the file itself as add_copy does, moving it away from where it was."""
        return self._add(iso, source, version, boot_files.move)

    def _add(self, iso: Path, source: str, version: str, transfer: Callable[[Path, Path], str]) -> Image:
        with os_errors_as_b2d_errors(self.home.images):
            volume = read_volume(iso)
            with self._lock():
                sha256 = self._place(iso, transfer)
                record = self._describe(sha256, version or volume.version, source)
        return self._image(sha256, record, source)

    def verify(self, image: Image) -> None:
        """Raise ImageError unless the files are unchanged since they were stored.

        A file with the size, time and inode of its last hashing is not hashed again. Damaged files that were extracted
        from an intact ISO are extracted again.
        """
        paths = self.home.image(image.sha256)
        record = _read_record(paths)
        with os_errors_as_b2d_errors(self.home.images):
            known_stamps = _read_stamps(paths)
            stamps = dict(known_stamps)
            if record is None or not boot_files.is_sound(paths.iso, image.sha256, stamps):
                raise ImageError(f"the image {image.version} is damaged: {paths.iso}", hint=HINT)
            if not all(boot_files.is_sound(path, part.sha256, stamps) for path, part in _parts(paths, record)):
                updated = _with_content(record, boot_files.unpack(paths))
                for path, part in _parts(paths, updated):
                    if not boot_files.is_sound(path, part.sha256, stamps):
                        raise ImageError(f"the image {image.version} is damaged: {path}", hint=HINT)
                if updated != record:  # another version of b2d extracted the files, with another layout
                    _write_record(paths, updated)
            if stamps != known_stamps:
                write_atomic(paths.checked, json.dumps(stamps).encode())

    def unused(self, used: Collection[str]) -> list[Image]:
        """Return the images that are neither `used` (hashes) nor the newest of any source."""
        records = list(self._records())
        newest: dict[str, tuple[float, str]] = {}
        for sha256, record in records:
            for source, time_stored in record.sources.items():
                newest[source] = max(newest.get(source, (0.0, "")), (time_stored, sha256))
        needed = {*used, *(sha256 for _, sha256 in newest.values())}
        return [self._image(sha256, record) for sha256, record in records if sha256 not in needed]

    def remove(self, sha256: str) -> None:
        """Remove an image and its files, the record first; nothing where it is not stored."""
        paths = self.home.image(sha256)
        if not self.home.images.is_dir():
            return
        with os_errors_as_b2d_errors(self.home.images), self._lock():
            _remove_files(paths)

    def _describe(self, sha256: str, label: str, source: str) -> ImageRecord:
        """Extract the files of a stored ISO and write its record; remove a new ISO where that fails."""
        paths = self.home.image(sha256)
        known = _read_record(paths)
        try:
            record = known if known is not None and _is_extracted(paths, known) else _extract(paths, label)
            sources = {**(known.sources if known else {}), source: time.time()}
            record = replace(record, sources=sources, suites=suites.of_iso(paths.iso))
            files = [paths.iso, *(path for path, _ in _parts(paths, record))]
            stamps = {path.name: boot_files.stamp(path) for path in files}  # all hashed just now
            write_atomic(paths.checked, json.dumps(stamps).encode())
            _write_record(paths, record)
        except BaseException:
            if known is None:
                _remove_files(paths)
            raise
        return record

    def _records(self) -> Iterator[tuple[str, ImageRecord]]:
        try:
            names = [path.name for path in self.home.images.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise B2dError(f"{self.home.images} cannot be read: {error.strerror}") from error
        for name in sorted(names):
            sha256, dot, kind = name.partition(".")
            record = _read_record(self.home.image(sha256)) if dot and kind == "json" and sha256 else None
            if record is not None:
                yield sha256, record

    def _image(self, sha256: str, record: ImageRecord, source: str = "") -> Image:
        paths = self.home.image(sha256)
        return Image(
            sha256=sha256,
            iso=paths.iso,
            source=source or max(record.sources, key=lambda name: record.sources[name]),
            version=record.version,
            size=record.size,
            kernel=paths.kernel if record.kernel else None,
            initrd=paths.initrd if record.initrd else None,
            kernel_arguments=record.arguments,
            root=record.root,
            stored=paths.stored if record.stored else None,
            suites=record.suites,
            system=_system(sha256, record),
        )

    def _place(self, iso: Path, transfer: Callable[[Path, Path], str]) -> str:
        """Put `iso` at the path of its hash; an intact file there stays, since a machine may run it."""
        # this process holds the lock: unfinished files are of a b2d that died
        for leftover in self.home.images.iterdir():
            if boot_files.LEFTOVER.fullmatch(leftover.name) and (
                leftover.suffix == boot_files.UNFINISHED or _is_old(leftover)
            ):
                file_removal.remove(leftover)
        temporary = self.home.images / f".{os.getpid()}{boot_files.UNFINISHED}"
        try:
            sha256 = transfer(iso, temporary)
            read_volume(temporary)  # again: the file may have changed since it was first read
            paths = self.home.image(sha256)
            if not boot_files.is_sound(paths.iso, sha256, {}):
                temporary.replace(paths.iso)
        finally:
            temporary.unlink(missing_ok=True)
        return sha256

    @contextmanager
    def _lock(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        check_owner(self.home.root)
        private_folder(self.home.images)
        lock = FileLock(self.home.images_lock)
        try:
            lock.acquire(timeout=LOCK_WAIT_S)
        except Timeout:
            raise MachineLockedError("another b2d is storing an image", hint="try again when it has finished") from None
        try:
            yield
        finally:
            lock.release()


def _remove_files(paths: ImagePaths) -> None:
    """Remove the files, the record first: without it nothing else is read."""
    for path in (paths.facts, paths.checked, paths.kernel, paths.initrd, paths.stored, paths.iso):
        path.unlink(missing_ok=True)
    for leftover in paths.folder.glob(f".{paths.sha256}.*"):  # temporary files of a b2d that died
        leftover.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    """Return whether nobody can be writing the file any more: verifying an image takes no lock."""
    try:
        return time.time() - path.stat().st_mtime > LEFTOVER_AGE_S
    except FileNotFoundError:
        return False


def _parts(paths: ImagePaths, record: ImageRecord) -> list[tuple[Path, Part]]:
    parts = ((paths.kernel, record.kernel), (paths.initrd, record.initrd), (paths.stored, record.stored))
    return [(path, part) for path, part in parts if part is not None]


def _is_extracted(paths: ImagePaths, record: ImageRecord) -> bool:
    """Return whether the extracted files exist and are intact.

    A saved machine resumes with exactly these bytes, and another b2d's may differ.
    """
    return record.kernel is not None and all(boot_files.holds(path, part) for path, part in _parts(paths, record))


def _extract(paths: ImagePaths, label: str) -> ImageRecord:
    content = boot_files.unpack(paths)
    return _with_content(
        ImageRecord(content.version or label or paths.sha256[:12], paths.iso.stat().st_size, {}), content
    )


def _with_content(record: ImageRecord, content: Content) -> ImageRecord:
    """Return the record with the files extracted from the image."""
    return replace(
        record,
        kernel=content.kernel,
        initrd=content.initrd,
        arguments=content.arguments,
        root=content.root,
        root_sha256=content.root_sha256,
        stored=content.stored,
    )


def _system(sha256: str, record: ImageRecord) -> str:
    """Return a hash of all that a guest boots: where its parts are unknown, that of the ISO."""
    if record.kernel is None or record.initrd is None or not record.root_sha256:
        return sha256
    parts = (record.kernel.sha256, record.initrd.sha256, record.root_sha256, record.arguments)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _write_record(paths: ImagePaths, record: ImageRecord) -> None:
    write_atomic(paths.facts, (json.dumps(json_text.document(asdict(record)), indent=2) + "\n").encode())


def _read_stamps(paths: ImagePaths) -> dict[str, Stamp]:
    try:
        stamps = json_text.parse(read_bounded(paths.checked))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _read_record(paths: ImagePaths) -> ImageRecord | None:
    """Return the record, None where there is none that this b2d can read: then there is no image."""
    try:
        data = json_text.parse(read_bounded(paths.facts))
        if data["format"] != FORMAT or not data["sources"]:
            return None
        return ImageRecord(
            version=str(data["version"]),
            size=numbers.whole(data["size"], 0, MAX_PART_SIZE),
            sources={str(source): float(time_stored) for source, time_stored in data["sources"].items()},
            kernel=part_of(data["kernel"]),
            initrd=part_of(data["initrd"]),
            arguments=str(data["arguments"]),
            root=extent_of(data["root"]),
            root_sha256=json_text.text(data.get("root_sha256", "")),
            stored=part_of(data["stored"]),
            suites=suites.of_json(data.get("suites", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
