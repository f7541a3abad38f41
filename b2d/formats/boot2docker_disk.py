"""Recognise disks of boot2docker, by the label of their data or the request to format them."""

import struct
from collections.abc import Callable, Iterator

from b2d.formats.disk_reading import SECTOR

MAGIC = "boot2docker, please format-me"
LABEL = b"boot2docker-data"
LABEL_AT = 1144  # offset in an ext4 file system
TABLE, ENTRY, ENTRIES = 446, 16, 4  # of the partition table in the first sector
GPT, PROTECTIVE = b"EFI PART", 0xEE
GPT_FIELDS, GPT_LIMIT = 72, 128  # offset of the table's location; the number of entries that are read
ENTRY_SIZES = range(128, 4097)  # bytes; larger ones would be much to read

Read = Callable[[int, int], bytes]  # offset and size; fewer bytes at the disk's end


def is_ours(read: Read) -> bool:
    """Return whether the guest would use the disk, or format it."""
    if read(0, len(MAGIC)) == MAGIC.encode():
        return True
    return any(read(start + LABEL_AT, len(LABEL)) == LABEL for start in (0, *_partitions(read)))


def _partitions(read: Read) -> Iterator[int]:
    """Yield the offset of each partition in bytes."""
    head = read(0, 2 * SECTOR).ljust(2 * SECTOR, b"\0")
    if head[SECTOR:].startswith(GPT):
        first, count, size = struct.unpack_from("<QII", head, SECTOR + GPT_FIELDS)
        if size in ENTRY_SIZES:
            content = read(first * SECTOR, min(count, GPT_LIMIT) * size)
            for at in range(0, len(content) - size + 1, size):
                yield struct.unpack_from("<Q", content, at + 32)[0] * SECTOR
    elif head[510:512] == b"\x55\xaa":
        for number in range(ENTRIES):
            kind, start = struct.unpack_from("<4xB3xI", head, TABLE + ENTRY * number)
            if kind not in (0, PROTECTIVE):
                yield start * SECTOR
