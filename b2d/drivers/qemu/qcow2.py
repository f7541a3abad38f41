"""What a disk of QEMU says of itself in its file, also while a QEMU has it open."""

import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from b2d.host.files import open_regular
from b2d.models import Snapshot

MAGIC = b"QFI\xfb"
HEADER = ">4s16xIQ28xIQ"  # the magic, the bits of a cluster, the size; how many snapshots, and where their table is
ENTRY = ">QIHHI16xI"  # of that table: its map, and of how many entries; lengths of number and name; seconds; more
CLUSTERS = range(9, 22)  # what the bits can be
OFFSET = 0x00FFFFFFFFFFFE00  # what of an entry of a map is a place in the file
COMPRESSED = 1 << 62
SNAPSHOT_LIMIT, MAP_LIMIT = 1 << 16, 4 << 20  # how many of a disk, and entries of a map; QEMU itself allows no more
ENTRIES_LIMIT = 1 << 27  # of maps, of all snapshots together: 8 TiB in clusters of 64 KiB


def size(path: Path) -> int:
    """How many bytes the guest sees; 0 for what is no such disk."""
    try:
        with open_regular(path) as file:
            return _header(file)[1]
    except (OSError, struct.error):
        return 0


def snapshots(path: Path) -> list[Snapshot]:
    """All that are in it, by the names that they have there; as many as can be read."""
    found: list[Snapshot] = []
    try:
        with open_regular(path) as file:
            found.extend(_snapshots(file))
    except (OSError, ValueError, OverflowError, struct.error):
        pass
    return found


def _header(file: BinaryIO) -> tuple[int, int, int, int]:
    magic, bits, size, count, table = _unpacked(file, 0, HEADER)
    return (bits, size, count, table) if magic == MAGIC and bits in CLUSTERS else (0, 0, 0, 0)


def _snapshots(file: BinaryIO) -> Iterator[Snapshot]:
    bits, _, count, place = _header(file)
    left = ENTRIES_LIMIT
    for _ in range(min(count, SNAPSHOT_LIMIT)):
        first, entries, id_length, name_length, taken_s, extra = _unpacked(file, place, ENTRY)
        start = place + struct.calcsize(ENTRY) + extra + id_length
        file.seek(start)
        name = file.read(name_length).decode(errors="replace")
        held, left = _held(file, (first, entries), 1 << bits, left)
        yield Snapshot(name, taken_s, held)
        place = -(-(start + name_length) // 8) * 8


def _held(file: BinaryIO, top: tuple[int, int], cluster: int, left: int) -> tuple[int, int]:
    """How many bytes a snapshot holds, whoever else holds them too, and how many entries of maps may be read yet.

    Its map of two levels, which begins at `top`, is not changed any more.
    """
    held = 0
    maps = _numbers(file, *top) if left > 0 else ()
    left -= len(maps)
    for entry in maps:
        if entry & OFFSET and left > 0:
            numbers = _numbers(file, entry & OFFSET, cluster // 8)
            left -= cluster // 8
            held += sum(1 for number in numbers if number & (OFFSET | COMPRESSED))
    return cluster * held, left


def _numbers(file: BinaryIO, place: int, count: int) -> "array[int]":
    file.seek(place)
    found = array("Q", _whole(file.read(8 * min(count, MAP_LIMIT))))
    if sys.byteorder == "little":
        found.byteswap()
    return found


def _whole(data: bytes) -> bytes:
    return data[: len(data) // 8 * 8]


def _unpacked(file: BinaryIO, place: int, form: str) -> tuple[Any, ...]:
    file.seek(place)
    return struct.unpack(form, file.read(struct.calcsize(form)))
