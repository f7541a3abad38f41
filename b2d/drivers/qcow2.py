"""What a disk of QEMU says of itself in its file, also while a QEMU has it open."""

import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from b2d.files import open_regular
from b2d.model import Snapshot

MAGIC = b"QFI\xfb"
HEADER = ">4s16xIQ28xIQ"  # the magic, the bits of a cluster, the size; how many snapshots, and where their table is
ENTRY = ">QIHHI16xI"  # of that table: its map, and of how many entries; lengths of number and name; seconds; more
CLUSTERS = range(9, 22)  # what the bits can be
OFFSET = 0x00FFFFFFFFFFFE00  # what of an entry of a map is a place in the file
COMPRESSED = 1 << 62
SNAPSHOT_LIMIT, MAP_LIMIT = 1 << 16, 4 << 20  # how many of a disk, and entries of a map; QEMU itself allows no more


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
    for _ in range(min(count, SNAPSHOT_LIMIT)):
        first, entries, id_length, name_length, taken_s, extra = _unpacked(file, place, ENTRY)
        start = place + struct.calcsize(ENTRY) + extra + id_length
        file.seek(start)
        name = file.read(name_length).decode(errors="replace")
        yield Snapshot(name, taken_s, _held(file, first, entries, 1 << bits))
        place = -(-(start + name_length) // 8) * 8


def _held(file: BinaryIO, first: int, entries: int, cluster: int) -> int:
    """How many bytes a snapshot holds, whoever else holds them too: its map of two levels is not changed any more."""
    maps = (entry & OFFSET for entry in _numbers(file, first, entries))
    held = (_numbers(file, where, cluster // 8) for where in maps if where)
    return cluster * sum(1 for numbers in held for entry in numbers if entry & (OFFSET | COMPRESSED))


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
