"""What is taken out of a kept ISO and laid beside it, so that a hypervisor needs no boot loader."""

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from b2d.errors import DownloadError
from b2d.formats import bzimage, compression, json_text, numbers
from b2d.formats.iso9660 import SECTOR, has_few_records
from b2d.formats.iso_files import DAMAGE
from b2d.host.files import check_space, open_regular, write_atomic
from b2d.image import uncompressed_iso
from b2d.models import Extent
from b2d.paths import ImagePaths

if TYPE_CHECKING:
    from pycdlib import PyCdlib

Stamp = list[int]  # size, mtime_ns, inode; a list, since it is kept as JSON

HINT = "b2d download"
DESCRIPTION = "/b2d/image.json"
BOOT_LOADER = ("/isolinux/isolinux.bin", "/isolinux/ldlinux.c32", "/isolinux/isolinux.cfg")
FORMAT = 1
UNFINISHED = ".unfinished"
# what b2d calls files among the images while it works on them; other files there are their owner's business
LEFTOVER = re.compile(rf"\.\d+{re.escape(UNFINISHED)}|\.b2d-[a-z0-9_]{{8}}|\.[0-9a-f]{{64}}\.[a-z.]+\.[a-z0-9_]{{8}}")
CHUNK = 1 << 20
IMAGE_LIMIT = 8 << 30  # bytes, as of one that is downloaded (download.py)
MAX_PART_SIZE = 1 << 50  # bytes of a file
DESCRIPTION_LIMIT = 1 << 20  # bytes
FILE_LIMIT = 256 << 20  # bytes of a file of an ISO that is read into memory
INITRD_LIMIT = 256 << 20  # bytes that it unpacks to; b2d's own has some megabytes
SQUASHFS = b"hsqs"
ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Part:
    """A file that was unpacked, so that damage to it is found out."""

    sha256: str
    size: int


def part_of(kept: Any) -> Part | None:
    """Return the one that a file describes, None for none. Raises ValueError, TypeError and KeyError."""
    return Part(json_text.text(kept["sha256"]), numbers.whole(kept["size"], 0, MAX_PART_SIZE)) if kept else None


def extent_of(kept: Any) -> Extent | None:
    """Return the place that a file describes, the same. Its numbers become words of a hypervisor's command."""
    return Extent(*(numbers.whole(kept[name], 0, MAX_PART_SIZE) for name in ("offset", "size"))) if kept else None


@dataclass(frozen=True, slots=True)
class Content:
    """What an ISO says of itself; of one that is not b2d's, nothing is known."""

    version: str = ""
    kernel: Part | None = None
    initrd: Part | None = None
    arguments: str = ""
    stored: Part | None = None
    root: Extent | None = None  # in the stored one, where there is one


def unpack(paths: ImagePaths) -> Content:
    """Write kernel, initrd and a stored ISO beside the kept one, and say what it is; twice gives the same files.

    An ISO of other origin: nothing is written. Raises DownloadError when b2d's own is not what it should be.
    """
    with _opened(paths.iso) as iso:
        if iso is None:
            return Content()
        with _damaged(paths.iso):
            described = _read(iso, DESCRIPTION, DESCRIPTION_LIMIT)
            if described is None:
                return Content()
            description = json_text.parse(described)
            if description["format"] != FORMAT:
                raise DownloadError(f"this ISO is of format {description['format']}", hint="update b2d")
            packed_kernel = _needed(iso, description["kernel"])
            kernel = bzimage.vmlinux(packed_kernel) or packed_kernel
            initrd = _unpacked(_needed(iso, description["initrd"]))
            path = str(description["root"])
            root = _squashfs(iso, paths.iso, path)
            kept = _store(paths, iso, (path, root), initrd) if root else None
            return Content(
                version=str(description["version"]),
                kernel=_write_part(paths.kernel, kernel),
                initrd=_write_part(paths.initrd, initrd),
                arguments=str(description["arguments"]),
                root=_stored_root(paths.stored, path) if kept else root,
                stored=kept,
            )


def copy(source: Path, target: Path) -> str:
    """Copy a file, down to the disk itself, and return its sha256 in hexadecimal.

    Raises DownloadError for one that is larger than an image, or becomes so meanwhile.
    """
    digest = hashlib.sha256()
    with open_regular(source) as old, target.open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        check_space(target.parent, min(size, IMAGE_LIMIT))
        while size <= IMAGE_LIMIT and (chunk := old.read(CHUNK)):
            size = max(size, new.tell() + len(chunk))
            digest.update(chunk)
            new.write(chunk)
        if size > IMAGE_LIMIT:
            raise DownloadError(f"{source} has more than {IMAGE_LIMIT} bytes, as no image has")
        new.flush()
        os.fsync(new.fileno())
    target.chmod(0o600)
    return digest.hexdigest()


def move(source: Path, target: Path) -> str:
    """The same, and `source` is gone: on one disk there is room for it already."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        sha256 = copy(source, target)
        source.unlink()
        return sha256
    target.chmod(0o600)
    return hash_of(target)


def hash_of(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> Stamp:
    """How the file looks from outside: equal while nobody wrote it."""
    seen = path.stat()
    return [seen.st_size, seen.st_mtime_ns, seen.st_ino]


def holds(path: Path, part: Part) -> bool:
    """Tell whether the file is that part."""
    return path.is_file() and path.stat().st_size == part.size and hash_of(path) == part.sha256


def is_sound(path: Path, sha256: str, stamps: dict[str, Stamp]) -> bool:
    """True when the file has that hash; `stamps` saves the work where it can, and is brought up to date."""
    try:
        seen = stamp(path)
        if stamps.get(path.name) == seen:
            return True
        if hash_of(path) != sha256:
            return False
    except FileNotFoundError:
        return False
    stamps[path.name] = seen
    return True


def _write_part(path: Path, content: bytes) -> Part:
    part = Part(hashlib.sha256(content).hexdigest(), len(content))
    if not holds(path, part):
        write_atomic(path, content)  # never under a machine that has the same file open
    return part


def _store(paths: ImagePaths, iso: "PyCdlib", root: tuple[str, Extent], initrd: bytes) -> Part | None:
    """The ISO with nothing in it compressed; None where there is no boot loader in it, or this host cannot write it."""
    loader = {path: content for path in BOOT_LOADER if (content := _read(iso, path)) is not None}
    if loader.keys() != set(BOOT_LOADER):
        return None
    files = {**loader, uncompressed_iso.KERNEL: _needed(iso, uncompressed_iso.KERNEL), uncompressed_iso.INITRD: initrd}
    with TemporaryDirectory(dir=paths.folder, prefix=".b2d-") as work:
        written = Path(work) / "stored.iso"
        if not uncompressed_iso.write_iso(paths.iso, root, files, written):
            return None
        part = Part(hash_of(written), written.stat().st_size)
        if not holds(paths.stored, part):
            written.replace(paths.stored)
    return part


def _stored_root(path: Path, root: str) -> Extent | None:
    with _opened(path) as iso:
        return _squashfs(iso, path, root) if iso is not None else None


@contextmanager
def _opened(path: Path) -> Iterator["PyCdlib | None"]:
    """The ISO's files; None where the library cannot read it, which a boot loader may all the same."""
    from pycdlib import PyCdlib
    from pycdlib.pycdlibexception import PyCdlibException

    iso = PyCdlib()
    if not has_few_records(path):
        yield None
        return
    try:
        iso.open(str(path))
    except (PyCdlibException, *DAMAGE):
        yield None
        return
    try:
        yield iso
    finally:
        iso.close()


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    from pycdlib.pycdlibexception import PyCdlibException

    try:
        yield
    except (PyCdlibException, *DAMAGE) as error:
        raise DownloadError(
            f"{path.name} says it is an image of b2d's, but is damaged",
            hint=HINT,
            details=repr(error),
        ) from error


def _record(iso: "PyCdlib", path: str) -> Any:
    from pycdlib.pycdlibexception import PyCdlibInvalidInput

    if not iso.has_rock_ridge():
        return None
    try:
        return iso.get_record(rr_path=path)
    except PyCdlibInvalidInput:  # there is no such file
        return None


def _read(iso: "PyCdlib", path: str, limit: int | None = None) -> bytes | None:
    """The content of a file of at most `limit` bytes (FILE_LIMIT), None where there is none. Raises ValueError."""
    from io import BytesIO

    most = FILE_LIMIT if limit is None else limit
    record = _record(iso, path)
    if record is None:
        return None
    if record.get_data_length() > most:
        raise ValueError(f"{path} is larger than {most} bytes")
    content = BytesIO()
    iso.get_file_from_iso_fp(content, rr_path=path)
    return content.getvalue()


def _needed(iso: "PyCdlib", path: str) -> bytes:
    content = _read(iso, path)
    if content is None:
        raise ValueError(f"{path} is missing")
    return content


def _unpacked(initrd: bytes) -> bytes:
    """The initrd as the kernel would unpack it: under emulation that takes a second, here a moment."""
    return compression.unzstd(initrd, INITRD_LIMIT) if initrd.startswith(ZSTD) else initrd


def _squashfs(iso: "PyCdlib", path: Path, root: str) -> Extent | None:
    """Where the root lies in the ISO; None for one that is no squashfs: no disk to mount."""
    record = _record(iso, root)
    if record is None:
        raise ValueError(f"{root} is missing")
    extent = Extent(int(record.extent_location()) * SECTOR, int(record.get_data_length()))
    with path.open("rb") as file:
        file.seek(extent.offset)
        return extent if file.read(len(SQUASHFS)) == SQUASHFS else None
