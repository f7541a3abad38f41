"""Check VHD and VHDX disks, which must not have a parent.

Sources: Microsoft's "Virtual Hard Disk Image Format Specification" and [MS-VHDX].
"""

import struct
from typing import BinaryIO
from uuid import UUID

from b2d.formats.disk_reading import BY_NAME, CONVERT, SECTOR, DiskImageError, check_size, read_at

MAGIC, DYNAMIC_MAGIC = b"conectix", b"cxsparse"
FIXED, DYNAMIC, CHILD = 2, 3, 4
FOOTER = struct.Struct(">8sIIQI4sI4sQQII")  # up to the disk's type
PARENT = slice(40, 56)  # of the header of a dynamic disk: its parent's UUID
LOCATORS = slice(576, 768)  # the parent's file names
DYNAMIC_SIZE = 1024

VHDX_MAGIC = b"vhdxfile"
REGION_TABLES = (192 << 10, 256 << 10)  # bytes; the second is a copy
REGION_LIMIT = 8  # entries; the format has two regions
METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
ALLOCATION = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
ITEMS = {  # the last three: the disk's own UUID, logical and physical sector size
    FILE_PARAMETERS,
    DISK_SIZE,
    UUID("beca12ab-b2e6-4523-93ef-c309e000c746"),
    UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f"),
    UUID("cda348c7-445d-4471-9cc9-e9885251c556"),
}
HAS_PARENT = 2
LAYERED = "contains only the differences from another disk"


def is_vhd(file: BinaryIO, start: bytes, size: int) -> bool:
    """Return whether a file of `size` bytes is a VHD; a fixed one has only a footer."""
    return start.startswith(MAGIC) or (size >= SECTOR and read_at(file, size - SECTOR, len(MAGIC)) == MAGIC)


def check(file: BinaryIO, size: int, *, child: bool) -> None:
    """Check a VHD of `size` bytes. Raises DiskImageError."""
    footer = FOOTER.unpack(read_at(file, size - SECTOR, FOOTER.size)) if size > SECTOR else (b"",)
    if footer[0] != MAGIC or size % SECTOR:
        raise DiskImageError("is truncated or damaged")
    offset, length, kind = footer[3], footer[9], footer[11]
    check_size(length)
    first = FOOTER.unpack(read_at(file, 0, FOOTER.size))
    if kind == FIXED and first[0] != MAGIC:
        return
    if kind == CHILD and not child:
        raise DiskImageError(LAYERED, BY_NAME)
    if kind not in (DYNAMIC, CHILD):
        raise DiskImageError(f"is a VHD of the unsupported kind {kind}", CONVERT)
    if (first[0], first[3], first[11]) != (
        MAGIC,
        offset,
        kind,
    ):  # QEMU uses the copy at the start, VirtualBox the footer
        raise DiskImageError("is a VHD whose footer differs from its copy")
    header = read_at(file, offset, DYNAMIC_SIZE)
    if not header.startswith(DYNAMIC_MAGIC):
        raise DiskImageError("is truncated or damaged")
    if kind == DYNAMIC and (header[PARENT].strip(b"\0") or header[LOCATORS].strip(b"\0")):
        raise DiskImageError(LAYERED, BY_NAME)


def check_vhdx(file: BinaryIO) -> None:
    """Check a VHDX by both copies of its region table. Raises DiskImageError."""
    places = {place for table in REGION_TABLES for place in _metadata(read_at(file, table, 16 + 32 * REGION_LIMIT))}
    if len(places) != 1:
        raise DiskImageError("is a damaged VHDX")
    (place,) = places
    table = read_at(file, place, 32 + 32 * len(ITEMS))
    (count,) = struct.unpack_from("<H", table, 10)
    if not table.startswith(b"metadata") or count > len(ITEMS):
        raise DiskImageError(LAYERED, CONVERT)
    items: dict[UUID, int] = {}
    for number in range(count):
        name, offset = struct.unpack_from("<16sI", table, 32 + 32 * number)
        items[UUID(bytes_le=name)] = offset
    if items.keys() - ITEMS or not {FILE_PARAMETERS, DISK_SIZE} <= items.keys() or len(items) != count:
        raise DiskImageError(LAYERED, CONVERT)
    _, flags = struct.unpack("<II", read_at(file, place + items[FILE_PARAMETERS], 8))
    if flags & HAS_PARENT:
        raise DiskImageError(LAYERED, CONVERT)
    check_size(struct.unpack("<Q", read_at(file, place + items[DISK_SIZE], 8))[0])


def _metadata(table: bytes) -> list[int]:
    """Return the offset of the metadata in a region table, in bytes."""
    magic, _, count = struct.unpack_from("<4sII", table)
    if magic != b"regi" or count > REGION_LIMIT:
        raise DiskImageError("is a damaged VHDX")
    entries = [struct.unpack_from("<16sQ", table, 16 + 32 * number) for number in range(count)]
    names = [UUID(bytes_le=name) for name, _ in entries]
    if sorted(names) != sorted((METADATA, ALLOCATION)):
        raise DiskImageError("is a damaged VHDX")
    return [offset for (_, offset), name in zip(entries, names, strict=True) if name == METADATA]
