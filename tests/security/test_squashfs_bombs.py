"""A small squashfs that would cause endless work or memory use is refused soon."""

import io
import struct
import tracemalloc
import zlib

import pytest

from b2d.formats.squashfs import FILE, FOLDER, LARGE, write_uncompressed
from b2d.formats.squashfs_tables import METADATA, NOTHING, SquashfsError, Superblock
from tests.support.timing import cpu_limit

BLOCK = 1 << 20
ROOM = 300 << 20  # bytes of memory


def blocks(content: bytes) -> list[bytes]:
    packed = [zlib.compress(content[at : at + METADATA]) for at in range(0, len(content), METADATA)]
    return [struct.pack("<H", len(block)) + block for block in packed]


def a_squashfs(inodes: bytes, count: int, listings: bytes = b"", fragments: bytes = b"", data: bytes = b"") -> bytes:
    image = bytearray(Superblock.FORM.size) + data

    def table(content: bytes) -> int:
        places = []
        for block in blocks(content):
            places.append(len(image))
            image.extend(block)
        begin = len(image)
        image.extend(struct.pack(f"<{len(places)}Q", *places))
        return begin

    inode_table = len(image)
    image += b"".join(blocks(inodes))
    directory_table = len(image)
    image += b"".join(blocks(listings))
    fragment_table, id_table = table(fragments), table(bytes(4))
    numbers = (count, 0, BLOCK, len(fragments) // 16, 1, 20, 0, 1, 4, 0, 0, len(image))
    head = (b"hsqs", *numbers, id_table, NOTHING, inode_table, directory_table, fragment_table, NOTHING)
    image[: Superblock.FORM.size] = Superblock.FORM.pack(*head)
    return bytes(image)


def of_shared_listings() -> bytes:
    """Create a squashfs with one-byte listings whose first header claims the whole table."""
    entries = 200_000
    listings = struct.pack("<3I", entries - 1, 0, 1) + bytes(9) * entries
    folder = struct.pack("<4H2I", FOLDER, 0, 0, 0, 0, 1) + struct.pack("<2I2HI", 0, 2, 4, 0, 1)
    return a_squashfs(folder * 20_000, 20_000, listings)


def of_large_fragments() -> bytes:
    """Create a squashfs with fragments of 15 MiB, of which a few bytes are used."""
    entry = struct.pack("<QII", Superblock.FORM.size, 15 << 20, 0)
    return a_squashfs(b"", 0, b"", entry * 100_000, zlib.compress(b"x") + bytes(15 << 20))


def of_the_same_fragments() -> bytes:
    """Create a squashfs with all fragments in the same place."""
    data = zlib.compress(b"x") + bytes(BLOCK - 100)
    return a_squashfs(b"", 0, b"", struct.pack("<QII", Superblock.FORM.size, len(data), 0) * 500_000, data)


def of_holes() -> bytes:
    """Create a squashfs with a sparse file of petabytes."""
    count = 3_900_000
    fields = struct.pack("<3Q4I", 0, count * BLOCK, 0, 1, 0xFFFFFFFF, 0, NOTHING & 0xFFFFFFFF)
    inode = struct.pack("<4H2I", FILE + LARGE, 0, 0, 0, 0, 1) + fields
    return a_squashfs(inode + struct.pack("<I", 1 << 24) * count, 1)


def of_a_large_table() -> bytes:
    return a_squashfs(bytes(60 << 20), 1)


@pytest.mark.parametrize(
    "make", [of_shared_listings, of_large_fragments, of_the_same_fragments, of_holes, of_a_large_table]
)
def test_it_is_refused_quickly_with_little_memory(make) -> None:  # type: ignore[no-untyped-def]
    content = make()
    with cpu_limit(20):
        tracemalloc.start()
        try:
            with pytest.raises(SquashfsError):
                write_uncompressed(io.BytesIO(content), 0, len(content), io.BytesIO())
            assert tracemalloc.get_traced_memory()[1] < ROOM
        finally:
            tracemalloc.stop()


def test_a_valid_squashfs_of_the_same_kind_is_recompressed() -> None:
    listing = struct.pack("<3I", 0, 0, 1) + struct.pack("<HhHH", 0, 0, FOLDER, 0) + b"x"
    folder = struct.pack("<4H2I", FOLDER, 0, 0, 0, 0, 1) + struct.pack("<2I2HI", 0, 2, len(listing) + 3, 0, 1)
    packed = zlib.compress(b"x" * 500)
    entry = struct.pack("<QII", Superblock.FORM.size, len(packed), 0)
    content = a_squashfs(folder, 1, listing, entry, packed)
    written = io.BytesIO()
    write_uncompressed(io.BytesIO(content), 0, len(content), written)
    assert b"x" * 500 in written.getvalue()
