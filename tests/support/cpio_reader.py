"""A reader of cpio archives in the format "newc" of cpio(5), for tests."""

from collections.abc import Iterator
from dataclasses import dataclass

HEADER = 110  # bytes: a magic of 6, and 13 numbers of 8 hexadecimal digits


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive."""

    path: str
    inode: int
    mode: int  # including the type
    owner: tuple[int, int]
    mtime: int
    content: bytes


def entries(archive: bytes) -> Iterator[Entry]:
    """Yield all entries up to the trailer, which must be the end."""
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        inode, mode, uid, gid, _links, mtime, size, *_devices, length, _check = numbers
        name = archive[at + HEADER : at + HEADER + length]
        assert name.endswith(b"\0")
        begin = _aligned(at + HEADER + length)
        at = _aligned(begin + size)
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return
        yield Entry(name[:-1].decode(), inode, mode, (uid, gid), mtime, archive[begin : begin + size])


def _aligned(position: int) -> int:
    return (position + 3) // 4 * 4
