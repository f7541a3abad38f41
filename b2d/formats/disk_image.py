"""Identify a foreign virtual disk, and accept it only if it is one file that refers to no other file.

Each format is checked against a list of allowed header fields before another program opens the file: QEMU and
VirtualBox follow backing files, extents and external data files to any path of this host.

Sources: docs/interop/qcow2.txt of QEMU; VDI's header as VirtualBox writes it.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from b2d.formats import vhd, vmdk
from b2d.formats.disk_reading import BY_NAME, CONVERT, DiskImageError, check_size, read_at, size_of

QCOW2, VDI, VMDK, VHD, VHDX, RAW = "qcow2", "vdi", "vmdk", "vpc", "vhdx", "raw"  # names of qemu-img
OTHERS = {  # first bytes of disk formats that are not supported
    b"QED\0": "QED",
    b"COWD": "VMDK of ESX",
    b"WithoutFreeSpace": "Parallels",
    b"WithouFreSpacExt": "Parallels",
    b"Bochs Virtual HD Image": "Bochs",
    b"#!/bin/sh\n#V2.0 Format": "cloop",
}

QCOW2_MAGIC = b"QFI\xfb"
QCOW2_V2_SIZE, QCOW2_V3_SIZE = 72, 104  # bytes of the header
QCOW2_CLUSTER_BITS = range(9, 22)
QCOW2_DIRTY, QCOW2_CORRUPT, QCOW2_COMPRESSION, QCOW2_EXTENDED_L2 = (1 << bit for bit in (0, 1, 3, 4))
QCOW2_ALLOWED = QCOW2_DIRTY | QCOW2_COMPRESSION | QCOW2_EXTENDED_L2  # the data of a dirty image is complete
QCOW2_AUTOCLEAR = 1  # bitmaps; bit 1 belongs to an external data file
QCOW2_END = 0
QCOW2_EXTENSIONS = {0x6803F857, 0x23852875}  # feature names, bitmaps
QCOW2_EXTENSION_LIMIT = 64  # number of extensions that are read

VDI_MAGIC_AT, VDI_MAGIC = 0x40, b"\x7f\x10\xda\xbe"
VDI_HEADER_SIZE = 0x1C8
VDI_VERSION = 0x00010001
VDI_DYNAMIC, VDI_FIXED, VDI_CHILD = 1, 2, 4


@dataclass(frozen=True, slots=True)
class DiskImage:
    """A disk in one file. `extent` is the name of the file in a VMDK itself, "" for other formats."""

    format: str
    extent: str = ""


def inspect(file: BinaryIO, *, child: bool = False) -> DiskImage:
    """Return the kind of the open file. Raises DiskImageError unless it is one complete disk, and OSError.

    A `child` is VirtualBox's layer above another disk: it may refer to that by UUID, never by a path.
    """
    size = size_of(file)
    start = read_at(file, 0, min(size, vmdk.PROBE_SIZE)) if size else b""
    kinds = _kinds(file, start, size)
    if len(kinds) > 1:
        raise DiskImageError(f"can be read as several formats: {', '.join(kinds)}", CONVERT)
    kind = kinds[0] if kinds else RAW
    if kind == QCOW2:
        _check_qcow2(file, start)
    elif kind == VDI:
        _check_vdi(read_at(file, 0, VDI_HEADER_SIZE), child)
    elif kind == VMDK:
        return DiskImage(VMDK, vmdk.check(file, size, child=child))
    elif kind == VHD:
        vhd.check(file, size, child=child)
    elif kind == VHDX:
        vhd.check_vhdx(file)
    else:
        _check_raw(start, size)
    return DiskImage(kind)


def _kinds(file: BinaryIO, start: bytes, size: int) -> list[str]:
    kinds = []
    if start.startswith(QCOW2_MAGIC):
        kinds.append(QCOW2)
    if start.startswith(vmdk.MAGIC):
        kinds.append(VMDK)
    if start.startswith(vhd.VHDX_MAGIC):
        kinds.append(VHDX)
    if start[VDI_MAGIC_AT:].startswith(VDI_MAGIC):
        kinds.append(VDI)
    if vhd.is_vhd(file, start, size):
        kinds.append(VHD)
    return kinds


def _check_raw(start: bytes, size: int) -> None:
    if vmdk.is_text_descriptor(start):
        raise DiskImageError("is a VMDK that only refers to other files, which are not read", CONVERT)
    other = next((name for magic, name in OTHERS.items() if start.startswith(magic)), "")
    if other:
        raise DiskImageError(f"is a disk of the unsupported format {other}", CONVERT)
    if not size:
        raise DiskImageError("is empty")
    check_size(size)


def _check_qcow2(file: BinaryIO, start: bytes) -> None:
    header = start[:QCOW2_V2_SIZE]
    if len(header) < QCOW2_V2_SIZE:
        raise DiskImageError("is truncated or damaged")
    version, backing, backing_size, cluster_bits, size, encryption = struct.unpack_from(">IQIIQI", header, 4)
    if version not in (2, 3):
        raise DiskImageError(f"is a qcow of version {version}, but b2d supports only 2 and 3", CONVERT)
    if backing or backing_size:
        raise DiskImageError("contains only the differences from a backing file, which is not read", CONVERT)
    if encryption:
        raise DiskImageError("is encrypted", CONVERT)
    if cluster_bits not in QCOW2_CLUSTER_BITS:
        raise DiskImageError("is damaged: its cluster size is invalid")
    check_size(size)
    length = QCOW2_V2_SIZE
    if version == 3:
        length = _check_features(read_at(file, 0, QCOW2_V3_SIZE), 1 << cluster_bits)
    _check_extensions(file, length, 1 << cluster_bits)


def _check_features(header: bytes, cluster: int) -> int:
    """Check the fields of version 3, and return the header's size in bytes."""
    incompatible, _, autoclear, _, length = struct.unpack_from(">QQQII", header, QCOW2_V2_SIZE)
    if incompatible & QCOW2_CORRUPT:
        raise DiskImageError("is marked as corrupt", "qemu-img check -r all FILE, on a copy of it")
    if incompatible & ~QCOW2_ALLOWED or autoclear & ~QCOW2_AUTOCLEAR:
        raise DiskImageError("stores its data in another file, or uses an unsupported feature", CONVERT)
    if not QCOW2_V3_SIZE <= length <= cluster or length % 8:
        raise DiskImageError("is damaged: its header size is invalid")
    return int(length)


def _check_extensions(file: BinaryIO, offset: int, end: int) -> None:
    for _ in range(QCOW2_EXTENSION_LIMIT):
        if offset + 8 > end:
            return
        kind, length = struct.unpack(">II", read_at(file, offset, 8))
        if kind == QCOW2_END:
            return
        if kind not in QCOW2_EXTENSIONS:
            raise DiskImageError(f"has the unsupported header extension {kind:#010x}", CONVERT)
        offset += 8 + -(-length // 8) * 8
    raise DiskImageError("is damaged: its header has no end")


def _check_vdi(header: bytes, child: bool) -> None:
    version, _, kind = struct.unpack_from("<III", header, 0x44)
    (size,) = struct.unpack_from("<Q", header, 0x170)
    parents = header[0x1A8:0x1C8]  # the parent's UUIDs: of its modification, and its own
    if version != VDI_VERSION:
        raise DiskImageError(
            f"is a VDI of version {version >> 16}.{version & 0xFFFF}, but b2d supports only 1.1", CONVERT
        )
    if kind == VDI_CHILD and child:
        check_size(size)
        return
    if kind not in (VDI_DYNAMIC, VDI_FIXED) or parents.strip(b"\0"):
        raise DiskImageError("contains only the differences from another disk", BY_NAME)
    check_size(size)
