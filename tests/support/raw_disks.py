"""Raw disks in every state that a guest may find, made without a guest."""

import hashlib
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

from b2d.guest import seed

SECTOR, PAGE, MIB = 512, 4096, 1 << 20
FIRST = 2048  # sectors
LABEL = b"boot2docker-data"
LINUX, SWAP, PROTECTIVE = 0x83, 0x82, 0xEE
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdueWtr2c1ovmZpfS9VcOxdKJyYkKkGIGJAUHsnwSf4 old\n"
CLEAN, NEEDS_RECOVERY = 1, 4  # s_state, and a bit of s_feature_incompat


def create_blank(path: Path, mib: int, begin: bytes = b"") -> Path:
    """Create a disk of zeros that begins with these bytes."""
    with path.open("wb") as file:
        file.truncate(mib * MIB)
        file.write(begin)
    return path


def create_unformatted(path: Path, mib: int) -> Path:
    """Create a disk as b2d does: blank, with the request to format it."""
    return create_blank(path, mib, seed.payload(KEY))


def write_at(path: Path, offset: int, content: bytes) -> Path:
    """Write data at the offset, which counts from the end when negative."""
    with path.open("r+b") as file:
        file.seek(offset, 2 if offset < 0 else 0)
        file.write(content)
    return path


def create_ext4(path: Path, mib: int, label: str, tree: Path | None = None) -> Path:
    """Create a file system over the whole disk with the content of a folder."""
    create_blank(path, mib)
    filled = ["-d", str(tree)] if tree else []
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", label, *filled, str(path)], check=True)
    return path


def create_boot2docker_disk(path: Path, mib: int, tree: Path) -> Path:
    """Create a disk as boot2docker did: swap on partition 2, which comes first, and `tree` on partition 1."""
    swap = mib // 8 * MIB // SECTOR
    data = mib * MIB // SECTOR - FIRST - swap
    part = create_ext4(path.with_suffix(".part"), data * SECTOR // MIB, LABEL.decode(), tree)
    create_blank(path, mib)
    write_at(path, 446, _entry(LINUX, FIRST + swap, data) + _entry(SWAP, FIRST, swap))
    write_at(path, 510, b"\x55\xaa")
    write_at(path, FIRST * SECTOR + 1024, struct.pack("<III", 1, swap * SECTOR // PAGE - 1, 0))
    write_at(path, FIRST * SECTOR + PAGE - 10, b"SWAPSPACE2")
    target = f"seek={(FIRST + swap) * SECTOR // MIB}"
    dd = ["dd", f"if={part}", f"of={path}", "bs=1M", target, "conv=notrunc,sparse", "status=none"]
    subprocess.run(dd, check=True)
    part.unlink()
    return path


def create_gpt_disk(path: Path, mib: int, tree: Path) -> Path:
    """Create a disk as boot2docker did from 18.09 on, with a GPT."""
    swap = mib // 8 * MIB // SECTOR
    data = mib * MIB // SECTOR - 2 * FIRST - swap
    part = create_ext4(path.with_suffix(".part"), data * SECTOR // MIB, LABEL.decode(), tree)
    create_blank(path, mib)
    write_at(path, 446, _entry(PROTECTIVE, 1, mib * MIB // SECTOR - 1))
    write_at(path, 510, b"\x55\xaa")
    entries = (_gpt_entry(1, FIRST + swap, data) + _gpt_entry(2, FIRST, swap)).ljust(128 * 128, b"\0")
    last = mib * MIB // SECTOR - 1
    for own, backup, table in ((1, last, 2), (last, 1, last - 32)):
        write_at(path, table * SECTOR, entries)
        write_at(path, own * SECTOR, _gpt_header(own, backup, table, entries))
    target = f"seek={(FIRST + swap) * SECTOR // MIB}"
    dd = ["dd", f"if={part}", f"of={path}", "bs=1M", target, "conv=notrunc,sparse", "status=none"]
    subprocess.run(dd, check=True)
    part.unlink()
    return path


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class DiskContent:
    """The current content of a data disk."""

    path: Path

    def has_magic(self) -> bool:
        return self._at(0, 29) == seed.MAGIC.encode()

    def table(self) -> bytes:
        return self._at(446, 64)

    def has_table(self) -> bool:
        return self._at(510, 2) == b"\x55\xaa"

    def has_file_system(self) -> bool:
        return self.has_table() and self._superblock()[0x38:0x3A] == b"\x53\xef"

    def label(self) -> bytes:
        return self._superblock()[0x78:0x88].rstrip(b"\0") if self.has_table() else b""

    def is_clean(self) -> bool:
        """Return True when the file system was unmounted cleanly."""
        superblock = self._superblock()
        (state,) = struct.unpack_from("<H", superblock, 0x3A)
        (features,) = struct.unpack_from("<I", superblock, 0x60)
        return state == CLEAN and not features & NEEDS_RECOVERY

    def _superblock(self) -> bytes:
        (start,) = struct.unpack("<I", self._at(446 + 8, 4))
        return self._at(start * SECTOR + 1024, 1024)

    def _at(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def _gpt_entry(number: int, start: int, sectors: int) -> bytes:
    kind = bytes.fromhex("af3dc60f838472478e793d69d8477de4")  # the GUID of Linux data in its byte order on disk
    return struct.pack("<16s16sQQ80x", kind, bytes([number] * 16), start, start + sectors - 1)


def _gpt_header(own_sector: int, other_sector: int, table: int, entries: bytes) -> bytes:
    def header(own: int) -> bytes:
        first, last = 34, max(own_sector, other_sector) - 33
        fields = (
            b"EFI PART",
            0x10000,
            92,
            own,
            0,
            own_sector,
            other_sector,
            first,
            last,
            bytes(15) + b"\1",
            table,
            128,
            128,
        )
        return struct.pack("<8sIIIIQQQQ16sQIII", *fields, zlib.crc32(entries))

    return header(zlib.crc32(header(0)))


def _entry(kind: int, start: int, sectors: int) -> bytes:
    return bytes([0, 0, 0, 0, kind, 0, 0, 0]) + struct.pack("<II", start, sectors)
