"""Rewrite a squashfs without compression. Names, link targets and owners are neither read nor interpreted.

The layout is kept: data and metadata blocks are decompressed one by one, and references get the blocks' new positions.
Nothing of a foreign file system reaches another program, or this host's file system.
"""

import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import BinaryIO

from b2d.formats.compression import DecompressionError
from b2d.formats.squashfs_tables import DECOMPRESSORS, NOTHING, Reader, SquashfsError, Superblock, Writer

COMPRESSOR_OPTIONS, NO_COMPRESSION = 0x400, 0x1 | 0x2 | 0x8 | 0x100 | 0x800  # flags of the superblock
STORED_DATA = 1 << 24  # in the size of a data block: not compressed
NO_FRAGMENT = 0xFFFFFFFF
PAGE = 4096  # bytes; the file is padded to whole pages, as by mksquashfs
# kinds of inodes; those above 7 have more fields
FOLDER, FILE, LINK, BLOCK_DEVICE, CHARACTER_DEVICE, FIFO, SOCKET = range(1, 8)
LARGE = 7  # difference of an inode's kind with more fields
PLAIN_SIZES = {
    BLOCK_DEVICE: 24,
    CHARACTER_DEVICE: 24,
    FIFO: 20,
    SOCKET: 20,
    BLOCK_DEVICE + LARGE: 28,
    CHARACTER_DEVICE + LARGE: 28,
    FIFO + LARGE: 24,
    SOCKET + LARGE: 24,
}


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The data blocks of a file: the first one's position, their stored sizes, and their content's size."""

    start: int
    sizes: tuple[int, ...]
    content: int  # bytes


def write_uncompressed(source: BinaryIO, offset: int, size: int, output: BinaryIO) -> None:
    """Write the squashfs of `size` bytes at `offset` of `source` to `output` without compression.

    The same input gives the same bytes. Raises SquashfsError, and OSError of `output`, whose content is then unusable.
    """
    reader = Reader(source, offset, size)
    try:
        superblock = Superblock.parse(reader.read_at(0, Superblock.FORM.size))
        reader.decompress = DECOMPRESSORS[superblock.compressor]
        _Rewriter(superblock, reader, Writer(output)).run(output)
    except (DecompressionError, struct.error) as error:
        raise SquashfsError(str(error)) from error


class _Rewriter:
    """The conversion of a file system."""

    def __init__(self, superblock: Superblock, reader: Reader, writer: Writer) -> None:
        self._superblock = superblock
        self._reader = reader
        self._writer = writer
        self._inodes = reader.metadata(superblock.inode_table, superblock.directory_table)
        self._folders = reader.metadata(superblock.directory_table, self._end_of_folders())
        self._moved: dict[tuple[int, tuple[int, ...]], tuple[int, list[int]]] = {}
        self._listed = 0  # bytes of listings that were rewritten

    def run(self, output: BinaryIO) -> None:
        """Write everything, the superblock last."""
        writer, old = self._writer, self._superblock
        writer.write(bytes(Superblock.FORM.size))
        fragments = self._write_fragments()
        self._rewrite_inodes()
        inode_table = writer.place
        writer.write_metadata(bytes(self._inodes.rewritten))
        directory_table = writer.place
        writer.write_metadata(bytes(self._folders.rewritten))
        new = replace(
            old,
            flags=old.flags & ~COMPRESSOR_OPTIONS | NO_COMPRESSION,
            root=self._reference(old.root),
            inode_table=inode_table,
            directory_table=directory_table,
            fragment_table=writer.write_table(fragments),
            export_table=NOTHING if old.export_table == NOTHING else writer.write_table(self._export_table()),
            id_table=writer.write_table(self._reader.table(old.id_table, 4 * old.ids)),
        )
        used = writer.place
        writer.write(bytes(-used % PAGE))
        output.seek(0)
        output.write(Superblock.FORM.pack(*astuple(replace(new, bytes_used=used))))

    def _end_of_folders(self) -> int:
        """Return where the first table after that of the folders begins: blocks precede their index."""
        block, reader = self._superblock, self._reader
        tables = [(block.fragment_table, 16 * block.fragments), (block.id_table, 4 * block.ids)]
        if block.export_table != NOTHING:
            tables.append((block.export_table, 8 * block.inodes))
        places = [place for table, size in tables for place in (table, *reader.index(table, size)[:1])]
        following = [place for place in places if place >= block.directory_table]
        if not following:
            raise SquashfsError("no table follows that of the folders")
        return min(following)

    def _write_fragments(self) -> bytes:
        """Write the blocks with the ends of files, and return their table."""
        count = self._superblock.fragments
        table, new = self._reader.table(self._superblock.fragment_table, 16 * count), bytearray()
        for start, size, unused in struct.iter_unpack("<QII", table):
            content = self._read_data(start, size, self._superblock.block_size)
            new += struct.pack("<QII", self._writer.write(content), len(content) | STORED_DATA, unused)
        return bytes(new)

    def _read_data(self, place: int, size: int, limit: int) -> bytes:
        """Return a data block, decompressed; one without stored bytes is a hole, and is kept."""
        packed = size & (STORED_DATA - 1)
        if packed > self._superblock.block_size:
            raise SquashfsError(f"a stored block of {packed} bytes")
        content = self._reader.read_at(place, packed)
        if content and not size & STORED_DATA:
            content = self._reader.decompress(content, limit)
        if len(content) > limit:
            raise SquashfsError(f"a block of {len(content)} bytes")
        return content

    def _rewrite_inodes(self) -> None:
        place = 0
        for _ in range(self._superblock.inodes):
            place = self._rewrite_inode(place)
        if place != len(self._inodes.content):
            raise SquashfsError("the table of inodes has another size than its inodes")

    def _rewrite_inode(self, place: int) -> int:
        """Update the references of an inode, and return where the next one begins."""
        content = self._inodes.content
        (kind,) = struct.unpack_from("<H", content, place)
        if kind == FILE:
            start, fragment, _, size = struct.unpack_from("<4I", content, place + 16)
            return self._rewrite_file(place + 16, "<I", place + 32, (start, fragment, size))
        if kind == FILE + LARGE:
            start, size, _, _, fragment = struct.unpack_from("<3Q2I", content, place + 16)
            return self._rewrite_file(place + 16, "<Q", place + 56, (start, fragment, size))
        if kind == FOLDER:
            block, _, size, offset = struct.unpack_from("<2I2H", content, place + 16)
            self._rewrite_folder(place + 16, block, offset, size)
            return place + 32
        if kind == FOLDER + LARGE:
            return self._rewrite_large_folder(place)
        if kind in (LINK, LINK + LARGE):
            target_size: int = struct.unpack_from("<I", content, place + 20)[0]
            return place + 24 + target_size + (4 if kind == LINK + LARGE else 0)
        if kind not in PLAIN_SIZES:
            raise SquashfsError(f"an inode of the kind {kind}")
        return place + PLAIN_SIZES[kind]

    def _rewrite_file(self, start_at: int, form: str, sizes_at: int, fields: tuple[int, int, int]) -> int:
        start, fragment, size = fields
        block_size = self._superblock.block_size
        count = size // block_size if fragment != NO_FRAGMENT else -(-size // block_size)
        if sizes_at + 4 * count > len(self._inodes.content):
            raise SquashfsError(f"a file of {size} bytes")
        sizes = struct.unpack_from(f"<{count}I", self._inodes.content, sizes_at)
        blocks = _Blocks(start, sizes, size if fragment == NO_FRAGMENT else count * block_size)
        new_start, new_sizes = self._move_blocks(blocks) if count else (0, [])
        struct.pack_into(form, self._inodes.rewritten, start_at, new_start)
        struct.pack_into(f"<{count}I", self._inodes.rewritten, sizes_at, *new_sizes)
        return sizes_at + 4 * count

    def _move_blocks(self, blocks: _Blocks) -> tuple[int, list[int]]:
        """Write a file's blocks, once for all files that share them."""
        key = (blocks.start, blocks.sizes)
        if key not in self._moved:
            begin = self._writer.place
            self._moved[key] = (begin, [self._write_block(content) for content in self._read_contents(blocks)])
        return self._moved[key]

    def _read_contents(self, blocks: _Blocks) -> Iterator[bytes]:
        place, remaining = blocks.start, blocks.content
        for size in blocks.sizes:
            expected = min(remaining, self._superblock.block_size)
            content = self._read_data(place, size, expected)
            if size and len(content) != expected:
                raise SquashfsError("a block is shorter than its file")
            yield content
            place += size & (STORED_DATA - 1)
            remaining -= expected

    def _write_block(self, content: bytes) -> int:
        """Append a block, and return its size in the form of an inode."""
        self._writer.write(content)
        return len(content) | STORED_DATA if content else 0

    def _rewrite_folder(self, block_at: int, block: int, offset: int, size: int) -> None:
        """Update the references in a folder's inode and listing; size 3 is only `.` and `..`."""
        if size <= 3:
            struct.pack_into("<I", self._inodes.rewritten, block_at, 0)
            return
        struct.pack_into("<I", self._inodes.rewritten, block_at, self._folders.moved_position(block))
        place = self._folders.position(block, offset)
        end = place + size - 3
        self._listed += size - 3
        if max(end, self._listed) > len(self._folders.content):  # listings are not shared
            raise SquashfsError("a listing ends outside of its table, or is shared")
        while place < end:
            place = self._rewrite_listing(place, end)

    def _rewrite_listing(self, place: int, end: int) -> int:
        """Update a header, whose entries share an inode block, and return where the next begins."""
        count, block = struct.unpack_from("<2I", self._folders.content, place)
        struct.pack_into("<I", self._folders.rewritten, place + 4, self._inodes.moved_position(block))
        place += 12
        for _ in range(count + 1):
            (name_size,) = struct.unpack_from("<H", self._folders.content, place + 6)
            place += 8 + name_size + 1
            if place > end:
                raise SquashfsError("a listing has more entries than its size allows")
        return place

    def _rewrite_large_folder(self, place: int) -> int:
        """Update a folder whose inode has an index of its listing's blocks by name."""
        content = self._inodes.content
        size, block = struct.unpack_from("<2I", content, place + 20)
        count, offset = struct.unpack_from("<2H", content, place + 32)
        self._rewrite_folder(place + 24, block, offset, size)
        place += 40
        for _ in range(count):
            block, name_size = struct.unpack_from("<2I", content, place + 4)
            struct.pack_into("<I", self._inodes.rewritten, place + 4, self._folders.moved_position(block))
            place += 12 + name_size + 1
        return place

    def _export_table(self) -> bytes:
        """Return the table of all inodes by number."""
        table = self._reader.table(self._superblock.export_table, 8 * self._superblock.inodes)
        return b"".join(struct.pack("<Q", self._reference(old)) for (old,) in struct.iter_unpack("<Q", table))

    def _reference(self, old: int) -> int:
        """Return the new reference to an inode: its block, and the offset in it."""
        return self._inodes.moved_position(old >> 16) << 16 | old & 0xFFFF
