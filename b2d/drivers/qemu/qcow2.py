"""Size and snapshots from the file of a qcow2 disk, also while a QEMU has it open."""

import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from b2d.formats.disk_image import QCOW2_CLUSTER_BITS, QCOW2_MAGIC
from b2d.host.files import open_regular
from b2d.models import Snapshot

HEADER = ">4s16xIQ28xIQ"  # magic, bits of a cluster, size, number of snapshots, offset of their table
ENTRY = ">QIHHI16xI"  # of that table: offset and entries of its map, lengths of id and name, seconds, extra
MAP, MAP_FORM = 36, ">IQ"  # in the header: where the map's number of entries and its offset are
OFFSET = 0x00FFFFFFFFFFFE00  # the file offset in an entry of a map
COMPRESSED = 1 << 62
SNAPSHOT_LIMIT, MAP_LIMIT = 1 << 16, 4 << 20  # snapshots of a disk, entries of a map; QEMU allows no more
ENTRIES_LIMIT = 1 << 27  # map entries of all snapshots together: 8 TiB in clusters of 64 KiB


def read_size(path: Path) -> int:
    """Return the size in bytes that the guest sees; 0 when the file is no qcow2 disk."""
    try:
        with open_regular(path) as file:
            return _parse_header(file)[1]
    except (OSError, struct.error):
        return 0


def read_snapshots(path: Path) -> list[Snapshot]:
    """Return all snapshots in the disk by their names there; as many as can be read."""
    snapshots: list[Snapshot] = []
    try:
        with open_regular(path) as file:
            snapshots.extend(_parse_snapshots(file))
    except (OSError, ValueError, OverflowError, struct.error):
        pass
    return snapshots


def contains_only(path: Path, start: bytes) -> bool:
    """Tell whether a disk has nothing but `start` in its first cluster, and no snapshots."""
    try:
        with open_regular(path) as file:
            bits, size, snapshots, _ = _parse_header(file)
            if not size or snapshots:
                return False
            count, offset = _unpack(file, MAP, MAP_FORM)
            (first,) = (entry for entry in _read_map(file, offset, count) if entry & OFFSET)
            entries = _read_map(file, first & OFFSET, (1 << bits) // 8)
            (only,) = (entry for entry in entries if entry & (OFFSET | COMPRESSED))
            if only != entries[0] or only & COMPRESSED:
                return False
            file.seek(only & OFFSET)
            return file.read(1 << bits) == start.ljust(1 << bits, b"\0")
    except (OSError, ValueError, OverflowError, IndexError, struct.error):
        return False


def _parse_header(file: BinaryIO) -> tuple[int, int, int, int]:
    magic, bits, size, count, table = _unpack(file, 0, HEADER)
    return (bits, size, count, table) if magic == QCOW2_MAGIC and bits in QCOW2_CLUSTER_BITS else (0, 0, 0, 0)


def _parse_snapshots(file: BinaryIO) -> Iterator[Snapshot]:
    bits, _, count, offset = _parse_header(file)
    left = ENTRIES_LIMIT
    for _ in range(min(count, SNAPSHOT_LIMIT)):
        first, entries, id_length, name_length, taken_s, extra = _unpack(file, offset, ENTRY)
        start = offset + struct.calcsize(ENTRY) + extra + id_length
        file.seek(start)
        name = file.read(name_length).decode(errors="replace")
        size, left = _referenced_bytes(file, (first, entries), 1 << bits, left)
        yield Snapshot(name, taken_s, size)
        offset = -(-(start + name_length) // 8) * 8


def _referenced_bytes(file: BinaryIO, top: tuple[int, int], cluster: int, left: int) -> tuple[int, int]:
    """Return the bytes that a snapshot refers to, shared ones included, and how many map entries may still be read.

    Its map has two levels, begins at `top`, and is never changed.
    """
    clusters = 0
    maps = _read_map(file, *top) if left > 0 else ()
    left -= len(maps)
    for entry in maps:
        if entry & OFFSET and left > 0:
            entries = _read_map(file, entry & OFFSET, cluster // 8)
            left -= cluster // 8
            clusters += sum(1 for entry in entries if entry & (OFFSET | COMPRESSED))
    return cluster * clusters, left


def _read_map(file: BinaryIO, offset: int, count: int) -> "array[int]":
    file.seek(offset)
    entries = array("Q", _whole_entries(file.read(8 * min(count, MAP_LIMIT))))
    if sys.byteorder == "little":
        entries.byteswap()
    return entries


def _whole_entries(data: bytes) -> bytes:
    return data[: len(data) // 8 * 8]


def _unpack(file: BinaryIO, offset: int, form: str) -> tuple[Any, ...]:
    file.seek(offset)
    return struct.unpack(form, file.read(struct.calcsize(form)))
