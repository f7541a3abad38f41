"""Extract the files of the boot from a stored ISO, so that a hypervisor needs no boot loader."""

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

from b2d.errors import ImageError
from b2d.formats import bzimage, compression, json_text, numbers
from b2d.formats.iso9660 import SECTOR, has_few_records
from b2d.formats.iso_files import DAMAGE
from b2d.formats.squashfs_tables import MAGIC as SQUASHFS_MAGIC
from b2d.formats.suites import DESCRIPTION
from b2d.host.files import check_space, hash_of, open_regular, write_atomic
from b2d.image import uncompressed_iso
from b2d.models import Extent
from b2d.paths import ImagePaths

if TYPE_CHECKING:
    from pycdlib import PyCdlib

Stamp = list[int]  # size, mtime_ns, inode; a list, since it is stored as JSON

HINT = "b2d download"
BOOT_LOADER = ("/isolinux/isolinux.bin", "/isolinux/ldlinux.c32", "/isolinux/isolinux.cfg")
FORMAT = 1
UNFINISHED = ".unfinished"
# names of b2d's own temporary files among the images; other files there belong to the user
LEFTOVER = re.compile(rf"\.\d+{re.escape(UNFINISHED)}|\.b2d-[a-z0-9_]{{8}}|\.[0-9a-f]{{64}}\.[a-z.]+\.[a-z0-9_]{{8}}")
CHUNK = 1 << 20
IMAGE_LIMIT = 8 << 30  # bytes; no ISO for a machine of this kind comes near
MAX_PART_SIZE = 1 << 50  # bytes of a file
DESCRIPTION_LIMIT = 1 << 20  # bytes
FILE_LIMIT = 256 << 20  # bytes of a file of an ISO that is read into memory
INITRD_LIMIT = 256 << 20  # bytes, decompressed; b2d's own has a few MiB
ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Part:
    """The hash and size in bytes of an extracted file, by which damage is detected."""

    sha256: str
    size: int


def part_of(value: Any) -> Part | None:
    """Return the Part in a JSON value, None for none. Raises ValueError, TypeError and KeyError."""
    return Part(json_text.text(value["sha256"]), numbers.whole(value["size"], 0, MAX_PART_SIZE)) if value else None


def extent_of(value: Any) -> Extent | None:
    """Return the Extent in a JSON value, as part_of; its numbers become arguments of a hypervisor."""
    return Extent(*(numbers.whole(value[name], 0, MAX_PART_SIZE) for name in ("offset", "size"))) if value else None


@dataclass(frozen=True, slots=True)
class Content:
    """The description of an ISO in itself; an ISO of other origin has none."""

    version: str = ""
    kernel: Part | None = None
    initrd: Part | None = None
    arguments: str = ""
    stored: Part | None = None
    root: Extent | None = None  # in the uncompressed ISO, where there is one
    root_sha256: str = ""  # of the root file system in the ISO


def unpack(paths: ImagePaths) -> Content:
    """Write kernel, initrd and an uncompressed ISO beside the stored one, and return its description.

    Repeating it gives the same files. Of an ISO of other origin nothing is written. Raises ImageError when b2d's own is
    damaged.
    """
    with _open_iso(paths.iso) as iso:
        if iso is None:
            return Content()
        with _translated_damage(paths.iso):
            text = _read(iso, DESCRIPTION, DESCRIPTION_LIMIT)
            if text is None:
                return Content()
            description = json_text.parse(text)
            if description["format"] != FORMAT:
                raise ImageError(f"this ISO has the unknown format {description['format']}", hint="upgrade b2d")
            packed_kernel = _read_required(iso, description["kernel"])
            kernel = bzimage.vmlinux(packed_kernel) or packed_kernel
            initrd = _decompress_initrd(_read_required(iso, description["initrd"]))
            path = str(description["root"])
            root = _squashfs(iso, paths.iso, path)
            stored = _store(paths, iso, (path, root), initrd) if root else None
            return Content(
                version=str(description["version"]),
                kernel=_write_part(paths.kernel, kernel),
                initrd=_write_part(paths.initrd, initrd),
                arguments=str(description["arguments"]),
                root=_stored_root(paths.stored, path) if stored else root,
                root_sha256=_hash_extent(paths.iso, root) if root else "",
                stored=stored,
            )


def copy(source: Path, target: Path) -> str:
    """Copy a file, flushed to the disk, and return its sha256 in hexadecimal.

    Raises ImageError for a file larger than an image, or one that grows so large meanwhile.
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
            raise ImageError(f"{source} is larger than {IMAGE_LIMIT >> 30} GiB, the limit for images")
        new.flush()
        os.fsync(new.fileno())
    target.chmod(0o600)
    return digest.hexdigest()


def move(source: Path, target: Path) -> str:
    """Move a file and return its sha256 as copy does; within one disk this needs no more space."""
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


def stamp(path: Path) -> Stamp:
    """Return the file's size, time and inode, which stay equal while nobody writes it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def holds(path: Path, part: Part) -> bool:
    """Return whether the file has the size and hash of the part."""
    return path.is_file() and path.stat().st_size == part.size and hash_of(path) == part.sha256


def is_sound(path: Path, sha256: str, stamps: dict[str, Stamp]) -> bool:
    """Return whether the file has that hash; `stamps` of unchanged files save the work, and are updated."""
    try:
        current = stamp(path)
        if stamps.get(path.name) == current:
            return True
        if hash_of(path) != sha256:
            return False
    except FileNotFoundError:
        return False
    stamps[path.name] = current
    return True


def _hash_extent(path: Path, extent: Extent) -> str:
    digest, left = hashlib.sha256(), extent.size
    with path.open("rb") as file:
        file.seek(extent.offset)
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _write_part(path: Path, content: bytes) -> Part:
    part = Part(hashlib.sha256(content).hexdigest(), len(content))
    if not holds(path, part):
        write_atomic(path, content)  # never in place: a machine may have the file open
    return part


def _store(paths: ImagePaths, iso: "PyCdlib", root: tuple[str, Extent], initrd: bytes) -> Part | None:
    """Write the ISO without compression.

    Returns None where the ISO has no boot loader, or this host cannot write it.
    """
    loader = {path: content for path in BOOT_LOADER if (content := _read(iso, path)) is not None}
    if loader.keys() != set(BOOT_LOADER):
        return None
    files = {
        **loader,
        uncompressed_iso.KERNEL: _read_required(iso, uncompressed_iso.KERNEL),
        uncompressed_iso.INITRD: initrd,
    }
    with TemporaryDirectory(dir=paths.folder, prefix=".b2d-") as work:
        written = Path(work) / "stored.iso"
        if not uncompressed_iso.write_iso(paths.iso, root, files, written):
            return None
        part = Part(hash_of(written), written.stat().st_size)
        if not holds(paths.stored, part):
            written.replace(paths.stored)
    return part


def _stored_root(path: Path, root: str) -> Extent | None:
    with _open_iso(path) as iso:
        return _squashfs(iso, path, root) if iso is not None else None


@contextmanager
def _open_iso(path: Path) -> Iterator["PyCdlib | None"]:
    """Open the ISO; yields None where the library cannot read it, although a boot loader might."""
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
def _translated_damage(path: Path) -> Iterator[None]:
    from pycdlib.pycdlibexception import PyCdlibException

    try:
        yield
    except (PyCdlibException, *DAMAGE) as error:
        raise ImageError(
            f"{path.name} is an image of b2d, but is damaged",
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
    """Return a file's content of at most `limit` bytes (FILE_LIMIT), None for no file. Raises ValueError."""
    from io import BytesIO

    maximum = FILE_LIMIT if limit is None else limit
    record = _record(iso, path)
    if record is None:
        return None
    if record.get_data_length() > maximum:
        raise ValueError(f"{path} is larger than {maximum} bytes")
    content = BytesIO()
    iso.get_file_from_iso_fp(content, rr_path=path)
    return content.getvalue()


def _read_required(iso: "PyCdlib", path: str) -> bytes:
    content = _read(iso, path)
    if content is None:
        raise ValueError(f"{path} is missing")
    return content


def _decompress_initrd(initrd: bytes) -> bytes:
    """Return the initrd decompressed: the kernel would need a second for that under emulation."""
    return compression.unzstd(initrd, INITRD_LIMIT) if initrd.startswith(ZSTD) else initrd


def _squashfs(iso: "PyCdlib", path: Path, root: str) -> Extent | None:
    """Return the location of the root in the ISO; None unless it is a squashfs, which can be mounted."""
    record = _record(iso, root)
    if record is None:
        raise ValueError(f"{root} is missing")
    extent = Extent(int(record.extent_location()) * SECTOR, int(record.get_data_length()))
    with path.open("rb") as file:
        file.seek(extent.offset)
        return extent if file.read(len(SQUASHFS_MAGIC)) == SQUASHFS_MAGIC else None
