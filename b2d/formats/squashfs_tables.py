"""Read and write the blocks and tables that a squashfs is made of, each with a limit.

Source of the format: fs/squashfs/squashfs_fs.h and Documentation/filesystems/squashfs.rst of Linux.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from b2d.formats.compression import inflate, unxz, unzstd

MAGIC = b"hsqs"
NOTHING = 0xFFFFFFFFFFFFFFFF  # the place of a table that is not there
METADATA = 8192  # bytes of a decompressed block of metadata
STORED_METADATA = 0x8000  # in its header: it is not compressed
SIZE_LIMIT = 2 << 30  # bytes; b2d's own image has 340 MB, and a place of 32 bits must do
TABLE_LIMIT = 16 << 20  # bytes of a decompressed table; b2d's own have some hundred kilobytes
READS, FIRST_READS = 4, 1 << 20  # how often all of it may be read, and bytes besides: each block is needed once
DECOMPRESSORS: dict[int, Callable[[bytes, int], bytes]] = {1: inflate, 4: unxz, 6: unzstd}


class SquashfsError(ValueError):
    """The file is no squashfs, damaged, too large, or has something that is not supported here."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """The first 96 bytes, field by field in their order."""

    magic: bytes
    inodes: int
    mkfs_time: int
    block_size: int
    fragments: int
    compressor: int
    block_log: int
    flags: int
    ids: int
    major: int
    minor: int
    root: int
    bytes_used: int
    id_table: int
    xattr_table: int
    inode_table: int
    directory_table: int
    fragment_table: int
    export_table: int

    FORM = struct.Struct("<4s4I6H8Q")

    @classmethod
    def parse(cls, data: bytes) -> "Superblock":
        """Read it, and check all that the rest relies on. Raises SquashfsError."""
        if len(data) < cls.FORM.size or not data.startswith(MAGIC):
            raise SquashfsError("this is no squashfs")
        parsed = cls(*cls.FORM.unpack_from(data))
        if (parsed.major, parsed.minor) != (4, 0) or parsed.compressor not in DECOMPRESSORS:
            raise SquashfsError(f"version {parsed.major}.{parsed.minor}, compressor {parsed.compressor}")
        if parsed.block_log not in range(12, 21) or parsed.block_size != 1 << parsed.block_log:
            raise SquashfsError(f"the block size {parsed.block_size}")
        if parsed.xattr_table != NOTHING:
            raise SquashfsError("extended attributes")
        return parsed


class Metadata:
    """A run of metadata blocks, decompressed; where each of them began tells what a reference means."""

    def __init__(self, content: bytes, starts: dict[int, int]) -> None:
        self.content = content
        self.rewritten = bytearray(content)
        self._starts = starts  # place of a block in the table: its number

    def moved(self, block: int) -> int:
        """Where the block that began at `block` begins when none is compressed. Raises SquashfsError."""
        try:
            return self._starts[block] * (METADATA + 2)
        except KeyError:
            raise SquashfsError(f"no block of metadata begins at {block}") from None

    def position(self, block: int, offset: int) -> int:
        """Where in `content` a reference points to. Raises SquashfsError."""
        return self.moved(block) // (METADATA + 2) * METADATA + offset


@dataclass(slots=True)
class Reader:
    """The source, bounded: every read is checked, and every table has a largest size."""

    file: BinaryIO
    offset: int
    size: int
    decompress: Callable[[bytes, int], bytes] = unzstd
    had: int = 0  # bytes so far

    def at(self, place: int, size: int) -> bytes:
        if size < 0 or place < 0 or place + size > self.size:
            raise SquashfsError(f"{size} bytes at {place} lie outside of the file system")
        self.had += size
        if self.had > READS * self.size + FIRST_READS:
            raise SquashfsError("the same blocks are in it again and again")
        self.file.seek(self.offset + place)
        content = self.file.read(size)
        if len(content) != size:
            raise SquashfsError("the file ends too soon")
        return content

    def metadata_block(self, place: int) -> tuple[bytes, int]:
        """The block that begins there, and where the next one does."""
        (header,) = struct.unpack("<H", self.at(place, 2))
        size = header & (STORED_METADATA - 1)
        content = self.at(place + 2, size)
        if not header & STORED_METADATA:
            content = self.decompress(content, METADATA)
        if not 0 < len(content) <= METADATA:
            raise SquashfsError(f"a block of metadata of {len(content)} bytes")
        return content, place + 2 + size

    def metadata(self, begin: int, end: int) -> Metadata:
        """All blocks between two places; each but the last is full."""
        content, place = bytearray(), begin
        starts: dict[int, int] = {}
        while place < end:
            if len(content) % METADATA or len(content) > TABLE_LIMIT:
                raise SquashfsError("a table of metadata that is too large, or has gaps")
            starts[place - begin] = len(starts)
            block, place = self.metadata_block(place)
            content += block
        return Metadata(bytes(content), starts)

    def index(self, table: int, size: int) -> list[int]:
        """The places of the metadata blocks of a table that has `size` bytes."""
        if size > TABLE_LIMIT:
            raise SquashfsError(f"a table of {size} bytes")
        count = -(-size // METADATA)
        return list(struct.unpack(f"<{count}Q", self.at(table, 8 * count)))

    def table(self, table: int, size: int) -> bytes:
        """The content of such a table."""
        content = b"".join(self.metadata_block(place)[0] for place in self.index(table, size))
        if len(content) != size:
            raise SquashfsError("a table is shorter than it should be")
        return content


class Writer:
    """The new file system; no more than SIZE_LIMIT comes of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.place = 0

    def write(self, content: bytes) -> int:
        """Append; return where it begins."""
        begin = self.place
        self.place += len(content)
        if self.place > SIZE_LIMIT:
            raise SquashfsError(f"it becomes larger than {SIZE_LIMIT} bytes")
        self._file.write(content)
        return begin

    def write_metadata(self, content: bytes) -> list[int]:
        """Append blocks of metadata; return where each begins."""
        blocks = [content[at : at + METADATA] for at in range(0, len(content), METADATA)]
        return [self.write(struct.pack("<H", STORED_METADATA | len(block)) + block) for block in blocks]

    def write_table(self, content: bytes) -> int:
        """Append blocks of metadata with the index that leads to them; return where that begins."""
        places = self.write_metadata(content)
        return self.write(struct.pack(f"<{len(places)}Q", *places))
