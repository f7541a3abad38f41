"""The images of one home: each kept under its own hash, with what it is beside it."""

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from b2d.errors import B2dError, DownloadError, MachineLockedError
from b2d.formats import json_text, numbers, suites
from b2d.formats.iso9660 import read_volume
from b2d.host import file_removal
from b2d.host.files import check_owner, os_errors_as_b2d_errors, private_folder, read_bounded, write_atomic
from b2d.image import boot_files
from b2d.image.boot_files import MAX_PART_SIZE, Content, Part, Stamp, extent_of, part_of
from b2d.models import Extent, Image, Suite
from b2d.paths import Home, ImagePaths

FORMAT = 2
LOCK_WAIT_S = 120.0  # to take in an image takes seconds
LEFT_S = 3600.0
HINT = "b2d download"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What <sha256>.json says. `sources` tells when it was taken in under which name (Unix time)."""

    version: str
    size: int
    sources: dict[str, float]
    kernel: Part | None = None
    initrd: Part | None = None
    arguments: str = ""
    root: Extent | None = None
    stored: Part | None = None
    suites: tuple[Suite, ...] = ()
    format: int = field(default=FORMAT)


@dataclass(frozen=True, slots=True)
class ImageStore:
    """The folder images/ of one home. Readers never wait; whoever adds or removes holds the folder's lock."""

    home: Home

    def all(self) -> list[Image]:
        """Each image once, under the source that it was last taken in for; newest first."""
        found = [(max(facts.sources.values()), sha256, facts) for sha256, facts in self._facts()]
        found.sort(key=lambda one: one[:2], reverse=True)
        return [self._image(sha256, facts) for _, sha256, facts in found]

    def find(self, source: str) -> Image | None:
        """The newest that is kept of a source, or None."""
        found = [(facts.sources[source], sha256, facts) for sha256, facts in self._facts() if source in facts.sources]
        if not found:
            return None
        _, sha256, facts = max(found, key=lambda one: one[:2])
        return self._image(sha256, facts, source)

    def get(self, sha256: str) -> Image:
        """The one of that hash. Raises B2dError when it is not kept."""
        facts = _read_facts(self.home.image(sha256))
        if facts is None:
            raise B2dError(f"the image {sha256[:12]} is not kept any more", hint=HINT)
        return self._image(sha256, facts)

    def sound(self, sha256: str) -> Image | None:
        """The one of that hash, or None where it is not kept, or damaged."""
        try:
            image = self.get(sha256)
            self.verify(image)
        except B2dError:
            return None
        return image

    def adopt(self, iso: Path, source: str, version: str = "") -> Image:
        """Take a copy of `iso` in as the newest of `source`; twice is fine. The file itself stays as it is.

        `version` is what it is called where it was published: not every label names one.

        Raises DownloadError unless it is a whole ISO image, and B2dError where the home cannot be written:
        nothing is kept then.
        """
        return self._take_in(iso, source, version, boot_files.copy)

    def take(self, iso: Path, source: str, version: str = "") -> Image:
        """The same with the file itself, which is gone from where it was."""
        return self._take_in(iso, source, version, boot_files.move)

    def _take_in(self, iso: Path, source: str, version: str, bring: Callable[[Path, Path], str]) -> Image:
        with os_errors_as_b2d_errors(self.home.images):
            volume = read_volume(iso)
            with self._lock():
                sha256 = self._bring_in(iso, bring)
                facts = self._describe(sha256, version or volume.version, source)
        return self._image(sha256, facts, source)

    def verify(self, image: Image) -> None:
        """Raise DownloadError unless the files are what they were when they were kept.

        A file that looks as it did when it was last hashed (size, time, inode) is not hashed again. What was
        unpacked from a sound ISO is unpacked again where it is damaged.
        """
        paths = self.home.image(image.sha256)
        facts = _read_facts(paths)
        with os_errors_as_b2d_errors(self.home.images):
            seen = _read_stamps(paths)
            whole = dict(seen)
            if facts is None or not boot_files.is_sound(paths.iso, image.sha256, whole):
                raise DownloadError(f"the image {image.version} is damaged: {paths.iso}", hint=HINT)
            if not all(boot_files.is_sound(path, part.sha256, whole) for path, part in _parts(paths, facts)):
                again = _with_content(facts, boot_files.unpack(paths))
                for path, part in _parts(paths, again):
                    if not boot_files.is_sound(path, part.sha256, whole):
                        raise DownloadError(f"the image {image.version} is damaged: {path}", hint=HINT)
                if again != facts:  # another version of b2d had unpacked it, and lays it out otherwise
                    _write_facts(paths, again)
            if whole != seen:
                write_atomic(paths.checked, json.dumps(whole).encode())

    def spare(self, used: Collection[str]) -> list[Image]:
        """Those that are neither `used` (hashes) nor the newest of any source: nobody would be given one."""
        facts = list(self._facts())
        newest: dict[str, tuple[float, str]] = {}
        for sha256, one in facts:
            for source, when in one.sources.items():
                newest[source] = max(newest.get(source, (0.0, "")), (when, sha256))
        wanted = {*used, *(sha256 for _, sha256 in newest.values())}
        return [self._image(sha256, one) for sha256, one in facts if sha256 not in wanted]

    def remove(self, sha256: str) -> None:
        """Remove the image and all that belongs to it; not kept: nothing. The facts go first."""
        paths = self.home.image(sha256)
        if not self.home.images.is_dir():
            return
        with os_errors_as_b2d_errors(self.home.images), self._lock():
            _unlink(paths)

    def _describe(self, sha256: str, label: str, source: str) -> ImageRecord:
        """Unpack a kept ISO and write what it is. Where that fails, it is kept only if it was before."""
        paths = self.home.image(sha256)
        known = _read_facts(paths)
        try:
            facts = known if known is not None and _is_whole(paths, known) else _unpacked(paths, label)
            sources = {**(known.sources if known else {}), source: time.time()}
            facts = replace(facts, sources=sources, suites=suites.of_iso(paths.iso))
            files = [paths.iso, *(path for path, _ in _parts(paths, facts))]
            stamps = {path.name: boot_files.stamp(path) for path in files}  # all hashed a moment ago
            write_atomic(paths.checked, json.dumps(stamps).encode())
            _write_facts(paths, facts)
        except BaseException:
            if known is None:
                _unlink(paths)
            raise
        return facts

    def _facts(self) -> Iterator[tuple[str, ImageRecord]]:
        try:
            names = [path.name for path in self.home.images.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise B2dError(f"{self.home.images} cannot be read: {error.strerror}") from error
        for name in sorted(names):
            sha256, dot, kind = name.partition(".")
            facts = _read_facts(self.home.image(sha256)) if dot and kind == "json" and sha256 else None
            if facts is not None:
                yield sha256, facts

    def _image(self, sha256: str, facts: ImageRecord, source: str = "") -> Image:
        paths = self.home.image(sha256)
        return Image(
            sha256=sha256,
            iso=paths.iso,
            source=source or max(facts.sources, key=lambda name: facts.sources[name]),
            version=facts.version,
            size=facts.size,
            kernel=paths.kernel if facts.kernel else None,
            initrd=paths.initrd if facts.initrd else None,
            kernel_arguments=facts.arguments,
            root=facts.root,
            stored=paths.stored if facts.stored else None,
            suites=facts.suites,
        )

    def _bring_in(self, iso: Path, bring: Callable[[Path, Path], str]) -> str:
        """Put `iso` where its hash says. What lies there sound stays: a machine may run it."""
        # we hold the lock: what is unfinished is of a b2d that died
        for left in self.home.images.iterdir():
            if boot_files.LEFTOVER.fullmatch(left.name) and (left.suffix == boot_files.UNFINISHED or _is_old(left)):
                file_removal.remove(left)
        temporary = self.home.images / f".{os.getpid()}{boot_files.UNFINISHED}"
        try:
            sha256 = bring(iso, temporary)
            read_volume(temporary)  # what was brought, which need not be what was looked at first
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
            raise MachineLockedError(
                "another b2d is taking in an image", hint="try again when that has ended"
            ) from None
        try:
            yield
        finally:
            lock.release()


def _unlink(paths: ImagePaths) -> None:
    """The facts go first: without them nothing else is looked at."""
    for path in (paths.facts, paths.checked, paths.kernel, paths.initrd, paths.stored, paths.iso):
        path.unlink(missing_ok=True)
    for left in paths.folder.glob(f".{paths.sha256}.*"):  # of a b2d that died while it wrote one of them
        left.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    """True for what nobody can be writing any more: to verify an image takes no lock."""
    try:
        return time.time() - path.stat().st_mtime > LEFT_S
    except FileNotFoundError:
        return False


def _parts(paths: ImagePaths, facts: ImageRecord) -> list[tuple[Path, Part]]:
    parts = ((paths.kernel, facts.kernel), (paths.initrd, facts.initrd), (paths.stored, facts.stored))
    return [(path, part) for path, part in parts if part is not None]


def _is_whole(paths: ImagePaths, facts: ImageRecord) -> bool:
    """True for what is unpacked and sound: a saved machine goes on with these bytes, and another b2d's may differ."""
    return facts.kernel is not None and all(boot_files.holds(path, part) for path, part in _parts(paths, facts))


def _unpacked(paths: ImagePaths, label: str) -> ImageRecord:
    content = boot_files.unpack(paths)
    return _with_content(
        ImageRecord(content.version or label or paths.sha256[:12], paths.iso.stat().st_size, {}), content
    )


def _with_content(facts: ImageRecord, content: Content) -> ImageRecord:
    """The facts with what was unpacked of the image."""
    return replace(
        facts,
        kernel=content.kernel,
        initrd=content.initrd,
        arguments=content.arguments,
        root=content.root,
        stored=content.stored,
    )


def _write_facts(paths: ImagePaths, facts: ImageRecord) -> None:
    write_atomic(paths.facts, (json.dumps(asdict(facts), indent=2) + "\n").encode())


def _read_stamps(paths: ImagePaths) -> dict[str, Stamp]:
    try:
        kept = json_text.parse(read_bounded(paths.checked))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _read_facts(paths: ImagePaths) -> ImageRecord | None:
    """None where there are none, or none that this b2d can read: then the image is not there."""
    try:
        kept = json_text.parse(read_bounded(paths.facts))
        if kept["format"] != FORMAT or not kept["sources"]:
            return None
        return ImageRecord(
            version=str(kept["version"]),
            size=numbers.whole(kept["size"], 0, MAX_PART_SIZE),
            sources={str(source): float(when) for source, when in kept["sources"].items()},
            kernel=part_of(kept["kernel"]),
            initrd=part_of(kept["initrd"]),
            arguments=str(kept["arguments"]),
            root=extent_of(kept["root"]),
            stored=part_of(kept["stored"]),
            suites=suites.of_json(kept.get("suites", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
