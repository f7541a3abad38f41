"""Read an ISO 9660 image's label and size, and check that it is one."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from b2d.errors import ImageError
from b2d.host.files import open_regular

SECTOR = 2048
DESCRIPTOR = 16 * SECTOR  # the system area before it belongs to boot loaders
PRIMARY = b"\x01CD001\x01"
LABEL = slice(40, 72)
BLOCKS = 80  # 32 bits, little endian first; the block size at 128 has 16 bits, also little endian first
BLOCK_SIZE = 128
# 1.2.0 was spelt "Boot2Bocker"
LABEL_PREFIXES = ("b2d-v", "Boot2Docker-v", "Boot2Bocker-v")
LABEL_OF_18_09_0 = "Boot2Docker"  # without a version
START_LIMIT = 512
# ECMA-119: 8.4.14 (the path table's size), 8.4.18 (the root's record in a volume descriptor), 9.1 (a record)
ROOT = slice(156, 190)
PATH_TABLE = 132
WITH_FILES = (1, 2)  # kinds of descriptors: primary and supplementary
RECORD_LEAST = 34  # bytes
FOLDER = 2  # a flag
DESCRIPTORS = 64  # maximum number of volume descriptors; three to six are usual
UDF = (b"BEA01", b"NSR02", b"NSR03")
RECORDS_LIMIT = 1 << 20  # bytes; b2d's own have a few KiB


@dataclass(frozen=True, slots=True)
class Volume:
    """The content of the primary volume descriptor."""

    label: str
    size: int  # bytes

    @property
    def is_boot2docker(self) -> bool:
        """Whether the label is one of boot2docker's four forms."""
        return self.label == LABEL_OF_18_09_0 or self.label.startswith(LABEL_PREFIXES)

    @property
    def version(self) -> str:
        """The version in the label, else the label itself."""
        for prefix in LABEL_PREFIXES:
            if self.label.startswith(prefix):
                return self.label.removeprefix(prefix)
        return self.label


def read_volume(path: Path) -> Volume:
    """Return the volume of a complete ISO 9660 image. Raises ImageError naming any other kind, and OSError."""
    with open_regular(path) as file:
        start = file.read(START_LIMIT)
        file.seek(DESCRIPTOR)
        descriptor = file.read(SECTOR)
        size = file.seek(0, 2)
    if not descriptor.startswith(PRIMARY):
        raise ImageError(f"this is not an ISO image but {_kind(start, size)}")
    volume = Volume(_label(descriptor), _size(descriptor))
    if size < volume.size:
        raise ImageError(f"the ISO image is truncated: it has {size} of {volume.size} bytes")
    return volume


def announced_size(path: Path) -> int:
    """Return the size in the header of a partial image, 0 before that is there.

    Raises ImageError for any other file.
    """
    with open_regular(path) as file:
        start = file.read(START_LIMIT)
        file.seek(DESCRIPTOR)
        descriptor = file.read(SECTOR)
    if len(descriptor) < SECTOR:
        return 0
    if not descriptor.startswith(PRIMARY):
        raise ImageError(f"this is not an ISO image but {_kind(start, path.stat().st_size)}")
    return _size(descriptor)


def has_few_records(path: Path, limit: int = RECORDS_LIMIT) -> bool:
    """Return whether folders and path tables of an image take at most `limit` bytes. Raises OSError.

    False also for UDF, and for blocks of another size than a sector's. A library with an object for each record takes
    memory in proportion.
    """
    remaining = limit
    visited: set[int] = set()
    with open_regular(path) as file:
        pending: list[tuple[int, int]] = []
        for descriptor in _descriptors(file):
            if descriptor is None or struct.unpack_from("<H", descriptor, BLOCK_SIZE)[0] != SECTOR:
                return False
            remaining -= int(struct.unpack_from("<I", descriptor, PATH_TABLE)[0])
            pending += _folders(descriptor[ROOT], include_self=True)
        while pending and remaining >= 0:
            sector, size = pending.pop()
            if sector not in visited:
                visited.add(sector)
                remaining -= max(size, SECTOR)
                file.seek(sector * SECTOR)
                pending += _folders(file.read(min(size, limit)))
    return remaining >= 0


def _descriptors(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the descriptors of volumes with files, Joliet's too; None for UDF's (ECMA-167), and for no end."""
    for number in range(DESCRIPTORS):
        file.seek(DESCRIPTOR + number * SECTOR)
        descriptor = file.read(SECTOR)
        if descriptor[1:6] in UDF:
            yield None
        if descriptor[1:6] != b"CD001" or len(descriptor) < SECTOR:
            return
        if descriptor[0] in WITH_FILES:
            yield descriptor
    yield None


def _folders(records: bytes, *, include_self: bool = False) -> Iterator[tuple[int, int]]:
    """Yield the first sector and the size in bytes of each folder in a folder's records, without . and .."""
    at = 0
    while at + RECORD_LEAST <= len(records):
        length = records[at]
        if length < RECORD_LEAST:  # the rest of this sector is empty
            at += SECTOR - at % SECTOR
            continue
        name = records[at + 33 : at + 33 + records[at + 32]]
        if records[at + 25] & FOLDER and (include_self or name not in (b"\0", b"\1")):
            yield struct.unpack_from("<I", records, at + 2)[0], struct.unpack_from("<I", records, at + 10)[0]
        at += length


def is_web_page(start: bytes) -> bool:
    """Return whether a file with this start is HTML, as of captive portals and error pages."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--"))


def _label(descriptor: bytes) -> str:
    return descriptor[LABEL].decode("ascii", "replace").rstrip(" \0")


def _size(descriptor: bytes) -> int:
    if len(descriptor) < SECTOR:
        return DESCRIPTOR + SECTOR  # the file ends within its descriptor
    blocks: int = struct.unpack_from("<I", descriptor, BLOCKS)[0]
    block_size: int = struct.unpack_from("<H", descriptor, BLOCK_SIZE)[0]
    return blocks * block_size


def _kind(start: bytes, size: int) -> str:
    if size == 0:
        return "an empty file"
    if is_web_page(start):
        return "a web page"
    if start.lstrip()[:1] in (b"{", b"["):
        return "a JSON document"
    return f"some other file of {size} bytes"
