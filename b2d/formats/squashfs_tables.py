"""Read and write the blocks and tables of a squashfs, within limits.

Source of the format: fs/squashfs/squashfs_fs.h and Documentation/filesystems/squashfs.rst of Linux.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from b2d.formats.compression import inflate, unxz, unzstd

MAGIC = b"hsqs"
NOTHING = 0xFFFFFFFFFFFFFFFF  # the position of a missing table
METADATA = 8192  # bytes of a decompressed block of metadata
STORED_METADATA = 0x8000  # in the block's header: not compressed
SIZE_LIMIT = 2 << 30  # bytes; b2d's own image has 340 MB, and positions have 32 bits
TABLE_LIMIT = 16 << 20  # bytes of a decompressed table; b2d's own have some hundred KiB
READS, FIRST_READS = 4, 1 << 20  # limit of reads, in multiples of the size, plus bytes: each block is needed once
DECOMPRESSORS: dict[int, Callable[[bytes, int], bytes]] = {1: inflate, 4: unxz, 6: unzstd}


class SquashfsError(ValueError):
    """A file that is not a squashfs, or is damaged, too large or unsupported."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """The first 96 bytes, field by field."""

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
        """Parse the superblock and check its fields. Raises SquashfsError."""
        if len(data) < cls.FORM.size or not data.startswith(MAGIC):
            raise SquashfsError("this is not a squashfs")
        parsed = cls(*cls.FORM.unpack_from(data))
        if (parsed.major, parsed.minor) != (4, 0) or parsed.compressor not in DECOMPRESSORS:
            raise SquashfsError(f"unsupported version {parsed.major}.{parsed.minor} or compressor {parsed.compressor}")
        if parsed.block_log not in range(12, 21) or parsed.block_size != 1 << parsed.block_log:
            raise SquashfsError(f"unsupported block size {parsed.block_size}")
        if parsed.xattr_table != NOTHING:
            raise SquashfsError("unsupported extended attributes")
        return parsed


class Metadata:
    """Consecutive metadata blocks, decompressed, with the positions to which references refer."""

    def __init__(self, content: bytes, starts: dict[int, int]) -> None:
        """Create metadata; `starts` maps each block's position in the table to its number."""
        self.content = content
        self.rewritten = bytearray(content)
        self._starts = starts

    def moved_position(self, block: int) -> int:
        """Return the new position of the block at `block` without compression. Raises SquashfsError."""
        try:
            return self._starts[block] * (METADATA + 2)
        except KeyError:
            raise SquashfsError(f"there is no metadata block at {block}") from None

    def position(self, block: int, offset: int) -> int:
        """Return the offset in `content` of a reference. Raises SquashfsError."""
        return self.moved_position(block) // (METADATA + 2) * METADATA + offset


@dataclass(slots=True)
class Reader:
    """The source with checked reads and limited tables."""

    file: BinaryIO
    offset: int
    size: int
    decompress: Callable[[bytes, int], bytes] = unzstd
    bytes_read: int = 0

    def read_at(self, place: int, size: int) -> bytes:
        """Return bytes at a position. Raises SquashfsError."""
        if size < 0 or place < 0 or place + size > self.size:
            raise SquashfsError(f"{size} bytes at {place} are outside the file system")
        self.bytes_read += size
        if self.bytes_read > READS * self.size + FIRST_READS:
            raise SquashfsError("blocks are referenced too often")
        self.file.seek(self.offset + place)
        content = self.file.read(size)
        if len(content) != size:
            raise SquashfsError("the file is truncated")
        return content

    def metadata_block(self, place: int) -> tuple[bytes, int]:
        """Return the metadata block at a position, and the position of the next."""
        (header,) = struct.unpack("<H", self.read_at(place, 2))
        size = header & (STORED_METADATA - 1)
        content = self.read_at(place + 2, size)
        if not header & STORED_METADATA:
            content = self.decompress(content, METADATA)
        if not 0 < len(content) <= METADATA:
            raise SquashfsError(f"a metadata block of {len(content)} bytes")
        return content, place + 2 + size

    def metadata(self, begin: int, end: int) -> Metadata:
        """Return all blocks between two positions; each except the last is full."""
        content, place = bytearray(), begin
        starts: dict[int, int] = {}
        while place < end:
            if len(content) % METADATA or len(content) > TABLE_LIMIT:
                raise SquashfsError("a metadata table is too large, or has gaps")
            starts[place - begin] = len(starts)
            block, place = self.metadata_block(place)
            content += block
        return Metadata(bytes(content), starts)

    def index(self, table: int, size: int) -> list[int]:
        """Return the positions of the metadata blocks of a table of `size` bytes."""
        if size > TABLE_LIMIT:
            raise SquashfsError(f"a table of {size} bytes")
        count = -(-size // METADATA)
        return list(struct.unpack(f"<{count}Q", self.read_at(table, 8 * count)))

    def table(self, table: int, size: int) -> bytes:
        """Return the content of a table of `size` bytes."""
        content = b"".join(self.metadata_block(place)[0] for place in self.index(table, size))
        if len(content) != size:
            raise SquashfsError("a table is too short")
        return content


class Writer:
    """The new file system of at most SIZE_LIMIT bytes."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file`."""
        self._file = file
        self.place = 0

    def write(self, content: bytes) -> int:
        """Append the content, and return its position. Raises SquashfsError."""
        begin = self.place
        self.place += len(content)
        if self.place > SIZE_LIMIT:
            raise SquashfsError(f"the output is larger than {SIZE_LIMIT} bytes")
        self._file.write(content)
        return begin

    def write_metadata(self, content: bytes) -> list[int]:
        """Append metadata blocks, and return their positions."""
        blocks = [content[at : at + METADATA] for at in range(0, len(content), METADATA)]
        return [self.write(struct.pack("<H", STORED_METADATA | len(block)) + block) for block in blocks]

    def write_table(self, content: bytes) -> int:
        """Append metadata blocks with their index, and return the index's position."""
        places = self.write_metadata(content)
        return self.write(struct.pack(f"<{len(places)}Q", *places))
