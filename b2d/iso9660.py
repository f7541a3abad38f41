"""What the first sectors of an ISO 9660 image say of it, and whether it is one at all."""

import struct
from dataclasses import dataclass
from pathlib import Path

from b2d.errors import DownloadFailed
from b2d.files import open_regular

SECTOR = 2048
DESCRIPTOR = 16 * SECTOR  # the system area before it belongs to boot loaders
PRIMARY = b"\x01CD001\x01"
LABEL = slice(40, 72)
BLOCKS = 80  # 32 bits, little endian first; the block size is at 128, 16 bits likewise
BLOCK_SIZE = 128
# "Boot2Bocker" is how 1.2.0 was spelt
LABEL_PREFIXES = ("b2d-v", "Boot2Docker-v", "Boot2Bocker-v")
LABEL_OF_18_09_0 = "Boot2Docker"  # it names no version
START_LIMIT = 512


@dataclass(frozen=True, slots=True)
class Volume:
    """What the primary volume descriptor says."""

    label: str
    size: int  # bytes

    @property
    def is_boot2docker(self) -> bool:
        """True when the label is one of the four forms that boot2docker's had."""
        return self.label == LABEL_OF_18_09_0 or self.label.startswith(LABEL_PREFIXES)

    @property
    def version(self) -> str:
        """The version that the label names, else the label itself."""
        for prefix in LABEL_PREFIXES:
            if self.label.startswith(prefix):
                return self.label.removeprefix(prefix)
        return self.label


def read_volume(path: Path) -> Volume:
    """The volume of a whole ISO 9660 image. Raises DownloadFailed, saying what the file is, and OSError."""
    with open_regular(path) as file:
        start = file.read(START_LIMIT)
        file.seek(DESCRIPTOR)
        descriptor = file.read(SECTOR)
        size = file.seek(0, 2)
    if not descriptor.startswith(PRIMARY):
        raise DownloadFailed(f"this is no ISO image but {_kind(start, size)}")
    volume = Volume(_label(descriptor), _size(descriptor))
    if size < volume.size:
        raise DownloadFailed(f"the ISO image is cut off: it has {size} of {volume.size} bytes")
    return volume


def announced_size(path: Path) -> int:
    """How large the image that begins there is to be, 0 while too little is there. Raises DownloadFailed for no ISO."""
    with open_regular(path) as file:
        start = file.read(START_LIMIT)
        file.seek(DESCRIPTOR)
        descriptor = file.read(SECTOR)
    if len(descriptor) < SECTOR:
        return 0
    if not descriptor.startswith(PRIMARY):
        raise DownloadFailed(f"this is no ISO image but {_kind(start, path.stat().st_size)}")
    return _size(descriptor)


def is_web_page(start: bytes) -> bool:
    """True when a file that begins so is HTML: what captive portals and error pages answer with."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--"))


def _label(descriptor: bytes) -> str:
    return descriptor[LABEL].decode("ascii", "replace").rstrip(" \0")


def _size(descriptor: bytes) -> int:
    if len(descriptor) < SECTOR:
        return DESCRIPTOR + SECTOR  # it ends within its own descriptor
    blocks: int = struct.unpack_from("<I", descriptor, BLOCKS)[0]
    block_size: int = struct.unpack_from("<H", descriptor, BLOCK_SIZE)[0]
    return blocks * block_size


def _kind(start: bytes, size: int) -> str:
    if size == 0:
        return "an empty file"
    if is_web_page(start):
        return "a web page"
    if start.lstrip()[:1] in (b"{", b"["):
        return "a JSON document"
    return f"some other file of {size} bytes"
