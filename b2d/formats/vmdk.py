"""Check VMDK disks: only sparse ones with an embedded descriptor that names no other file.

Sources: VMware's "Virtual Disk Format 5.0"; block/vmdk.c of QEMU, which follows a header of capacity 0 to its
descriptor, looks for a parent in the 20 sectors after the first one whatever the header says, and uses a footer in
place of the header where the grain directory is at the end.
"""

import re
import struct
from typing import BinaryIO

from b2d.formats.disk_reading import BY_NAME, CONVERT, SECTOR, DiskImageError, check_size, read_at

MAGIC = b"KDMV"
PROBE_SIZE = 4096  # bytes of a file that identify it
HEADER = struct.Struct("<4sIIQQQQIQQQ")
GRAINS_AT_END = (1 << 64) - 1
DESCRIPTOR_AT, DESCRIPTOR_SECTORS = 1, 20  # sectors, as of VMware, VirtualBox and QEMU
FOOTER_AT = 3 * SECTOR  # bytes from the end: a marker, the header again, the end marker
FOOTER = struct.pack("<QII", 1, 0, 3)
CHILDLESS = "ffffffff"
TYPES = ("monolithicsparse", "streamoptimized")
EXTENT = re.compile(r'(RW|RDONLY)\s+\d{1,20}\s+SPARSE\s+"([^"\\/]{1,255})"(\s+0)?', re.IGNORECASE)
KEYS = re.compile(r"version|cid|parentcid|createtype|encoding|isnativesnapshot")
DISK_KEYS = re.compile(
    r"ddb\.(adaptertype|virtualhwversion|thinprovisioned|longcontentid|toolsversion|toolsinstalltype|encoding|deletable"
    r"|comment|geometry\.(bios)?(cylinders|heads|sectors)|uuid(\.(image|modification|parent|parentmodification))?)"
)
PARENTS = ("ddb.uuid.parent", "ddb.uuid.parentmodification")


def is_text_descriptor(start: bytes) -> bool:
    """Return whether a file with this start is a descriptor, whose data is in other files."""
    lines = (line.strip().lower() for line in start.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    for line in lines:
        if line and not line.startswith(b"#"):
            return line.startswith(b"version=")  # QEMU's test
        if line.startswith(b"# disk descriptorfile"):  # VirtualBox's test
            return True
    return False


def check(file: BinaryIO, size: int, *, child: bool) -> str:
    """Check a file of `size` bytes that begins with MAGIC, and return its name in its descriptor.

    Raises DiskImageError.
    """
    header = HEADER.unpack(read_at(file, 0, HEADER.size))
    _check_header(header)
    if header[9] == GRAINS_AT_END:
        _check_footer(file, size, header)
    area = read_at(file, DESCRIPTOR_AT * SECTOR, min(DESCRIPTOR_SECTORS * SECTOR, size - DESCRIPTOR_AT * SECTOR))
    text, ended, _ = area.partition(b"\0")
    if not ended and len(area) > header[6] * SECTOR:
        raise DiskImageError("is damaged: its descriptor has no end")
    return _check_descriptor(text, child)


def _check_header(header: tuple[int, ...]) -> None:
    version, capacity, descriptor, sectors = header[1], header[3], header[5], header[6]
    if version not in (1, 2, 3):
        raise DiskImageError(f"is a VMDK of the unsupported version {version}", CONVERT)
    if not capacity:
        raise DiskImageError("is a VMDK that only refers to other files, which are not read", CONVERT)
    check_size(capacity * SECTOR)
    if not descriptor:
        raise DiskImageError("is one of several files of a VMDK", CONVERT)
    if descriptor != DESCRIPTOR_AT or not 0 < sectors <= DESCRIPTOR_SECTORS:
        raise DiskImageError("is a VMDK with its descriptor at an unsupported position", CONVERT)


def _check_footer(file: BinaryIO, size: int, header: tuple[int, ...]) -> None:
    """Check that the footer, which replaces the header, differs only in the grains' location."""
    if size % SECTOR or size < FOOTER_AT:
        raise DiskImageError("is truncated or damaged")
    marker = read_at(file, size - FOOTER_AT, SECTOR)
    footer = HEADER.unpack(read_at(file, size - FOOTER_AT + SECTOR, HEADER.size))
    if not marker.startswith(FOOTER) or footer[:8] != header[:8] or footer[9] == GRAINS_AT_END:
        raise DiskImageError("is a VMDK whose footer differs from its header")


def _check_descriptor(content: bytes, child: bool) -> str:
    if b"parentfilenamehint" in content.lower():  # also in a comment: QEMU finds the word anywhere
        raise DiskImageError("contains only the differences from another disk", BY_NAME)
    extents: list[str] = []
    values: dict[str, str] = {}
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        text = line.strip()
        key, equals, value = text.partition("=")
        name = key.strip().lower()
        if not text or text.startswith("#"):
            continue
        if extent := EXTENT.fullmatch(text):
            extents.append(extent[2])
        elif equals and (KEYS.fullmatch(name) or DISK_KEYS.fullmatch(name)) and name not in values:
            values[name] = value.strip().strip('"').lower()
        else:
            raise DiskImageError("is a VMDK with an unsupported line in its descriptor", CONVERT)
    if len(extents) != 1 or extents[0] in (".", "..") or values.get("createtype") not in TYPES:
        raise DiskImageError("is a VMDK that refers to other files, which are not read", CONVERT)
    has_parent = any(values.get(name, "").strip("0-") for name in PARENTS)
    if not child and (has_parent or values.get("parentcid") != CHILDLESS):
        raise DiskImageError("contains only the differences from another disk", BY_NAME)
    return extents[0]
