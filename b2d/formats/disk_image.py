"""Decide what a foreign virtual disk is, and accept it only if it is one file that names no other file.

Every format is parsed by an allow-list of what its headers may hold, before another program opens the file: QEMU and
VirtualBox follow backing files, extents and external data files to any path of this host.

Outside facts: docs/interop/qcow2.txt of QEMU; VDI's header as VirtualBox writes it.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from b2d.formats import vhd, vmdk
from b2d.formats.disk_reading import BY_NAME, CONVERT, DiskImageError, check_size, read_at, size_of

QCOW2, VDI, VMDK, VHD, VHDX, RAW = "qcow2", "vdi", "vmdk", "vpc", "vhdx", "raw"  # as qemu-img names them
OTHERS = {  # what begins so is a virtual disk, of a format that is not parsed here
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
QCOW2_ALLOWED = QCOW2_DIRTY | QCOW2_COMPRESSION | QCOW2_EXTENDED_L2  # a dirty one's data is whole
QCOW2_AUTOCLEAR = 1  # bitmaps; bit 1 belongs to an external data file
QCOW2_END = 0
QCOW2_EXTENSIONS = {0x6803F857, 0x23852875}  # names of features, bitmaps
QCOW2_EXTENSION_LIMIT = 64  # how many are looked at

VDI_MAGIC_AT, VDI_MAGIC = 0x40, b"\x7f\x10\xda\xbe"
VDI_HEADER_SIZE = 0x1C8
VDI_VERSION = 0x00010001
VDI_DYNAMIC, VDI_FIXED, VDI_CHILD = 1, 2, 4


@dataclass(frozen=True, slots=True)
class DiskImage:
    """A disk that is one file. `extent` is the name by which a VMDK calls itself, "" for other formats."""

    format: str
    extent: str = ""


def inspect(file: BinaryIO, *, child: bool = False) -> DiskImage:
    """Return what the open file is. Raises DiskImageError for what is not one whole disk, and OSError.

    A `child` is a layer that VirtualBox keeps above another disk: it may name that one by its UUID, never by a path.
    """
    size = size_of(file)
    start = read_at(file, 0, min(size, vmdk.PROBE_SIZE)) if size else b""
    kinds = _kinds(file, start, size)
    if len(kinds) > 1:
        raise DiskImageError(f"can be read as several formats: {', '.join(kinds)}", CONVERT)
    found = kinds[0] if kinds else RAW
    if found == QCOW2:
        _check_qcow2(file, start)
    elif found == VDI:
        _check_vdi(read_at(file, 0, VDI_HEADER_SIZE), child)
    elif found == VMDK:
        return DiskImage(VMDK, vmdk.check(file, size, child=child))
    elif found == VHD:
        vhd.check(file, size, child=child)
    elif found == VHDX:
        vhd.check_vhdx(file)
    else:
        _check_raw(start, size)
    return DiskImage(found)


def _kinds(file: BinaryIO, start: bytes, size: int) -> list[str]:
    found = []
    if start.startswith(QCOW2_MAGIC):
        found.append(QCOW2)
    if start.startswith(vmdk.MAGIC):
        found.append(VMDK)
    if start.startswith(vhd.VHDX_MAGIC):
        found.append(VHDX)
    if start[VDI_MAGIC_AT:].startswith(VDI_MAGIC):
        found.append(VDI)
    if vhd.is_vhd(file, start, size):
        found.append(VHD)
    return found


def _check_raw(start: bytes, size: int) -> None:
    if vmdk.is_text_descriptor(start):
        raise DiskImageError("is a VMDK that only names other files, which are not read", CONVERT)
    other = next((name for magic, name in OTHERS.items() if start.startswith(magic)), "")
    if other:
        raise DiskImageError(f"is a disk of a kind that b2d does not copy: {other}", CONVERT)
    if not size:
        raise DiskImageError("is empty")
    check_size(size)


def _check_qcow2(file: BinaryIO, start: bytes) -> None:
    header = start[:QCOW2_V2_SIZE]
    if len(header) < QCOW2_V2_SIZE:
        raise DiskImageError("is cut off or damaged")
    version, backing, backing_size, cluster_bits, size, encryption = struct.unpack_from(">IQIIQI", header, 4)
    if version not in (2, 3):
        raise DiskImageError(f"is a qcow of version {version}, and b2d reads 2 and 3", CONVERT)
    if backing or backing_size:
        raise DiskImageError("holds only what is otherwise than in its backing file, which is not read", CONVERT)
    if encryption:
        raise DiskImageError("is encrypted", CONVERT)
    if cluster_bits not in QCOW2_CLUSTER_BITS:
        raise DiskImageError("is damaged: its clusters have an impossible size")
    check_size(size)
    length = QCOW2_V2_SIZE
    if version == 3:
        length = _check_features(read_at(file, 0, QCOW2_V3_SIZE), 1 << cluster_bits)
    _check_extensions(file, length, 1 << cluster_bits)


def _check_features(header: bytes, cluster: int) -> int:
    """Check the fields of version 3, and return how many bytes the header has."""
    incompatible, _, autoclear, _, length = struct.unpack_from(">QQQII", header, QCOW2_V2_SIZE)
    if incompatible & QCOW2_CORRUPT:
        raise DiskImageError("is marked as corrupt", "qemu-img check -r all FILE, on a copy of it")
    if incompatible & ~QCOW2_ALLOWED or autoclear & ~QCOW2_AUTOCLEAR:
        raise DiskImageError("keeps its data in another file, or needs what b2d does not know", CONVERT)
    if not QCOW2_V3_SIZE <= length <= cluster or length % 8:
        raise DiskImageError("is damaged: its header has an impossible size")
    return int(length)


def _check_extensions(file: BinaryIO, offset: int, end: int) -> None:
    for _ in range(QCOW2_EXTENSION_LIMIT):
        if offset + 8 > end:
            return
        kind, length = struct.unpack(">II", read_at(file, offset, 8))
        if kind == QCOW2_END:
            return
        if kind not in QCOW2_EXTENSIONS:
            raise DiskImageError(f"has a header extension that b2d does not know ({kind:#010x})", CONVERT)
        offset += 8 + -(-length // 8) * 8
    raise DiskImageError("is damaged: its header does not end")


def _check_vdi(header: bytes, child: bool) -> None:
    version, _, kind = struct.unpack_from("<III", header, 0x44)
    (size,) = struct.unpack_from("<Q", header, 0x170)
    parents = header[0x1A8:0x1C8]  # the UUID of the parent as it was when this was made, and its own
    if version != VDI_VERSION:
        raise DiskImageError(f"is a VDI of version {version >> 16}.{version & 0xFFFF}, and b2d reads 1.1", CONVERT)
    if kind == VDI_CHILD and child:
        check_size(size)
        return
    if kind not in (VDI_DYNAMIC, VDI_FIXED) or parents.strip(b"\0"):
        raise DiskImageError("holds only what is otherwise than in another disk", BY_NAME)
    check_size(size)
