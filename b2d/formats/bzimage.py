"""Extract the kernel from the bzImage of a distribution, so that the guest need not decompress it.

Sources: Documentation/arch/x86/boot.rst of Linux (the setup header, protocol 2.08 and later), and
Documentation/arch/x86/pvh.rst of Xen (the note by which a hypervisor finds the entry point).
"""

import struct
from collections.abc import Callable, Iterator

from b2d.formats import compression

SECTOR = 512
SETUP_SECTORS = 0x1F1
MAGIC = 0x202
PROTOCOL = 0x206
PAYLOAD = 0x248  # offset from the end of the setup code, then length, both 32 bits
HEADER_END = 0x250
DEFAULT_SETUP_SECTORS = 4  # the meaning of zero
FIRST_PROTOCOL_WITH_PAYLOAD = 0x208

SIZE_LIMIT = 256 << 20  # bytes, decompressed; Debian's kernel has about 60 MB
SEGMENTS, NOTES_SIZE = 64, 64 << 10  # of a kernel's ELF file; bytes of its notes
ELF64 = b"\x7fELF\x02\x01"
PT_NOTE = 4
PVH_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY


class DamagedKernelError(ValueError):
    """A payload that differs from the size or the format in its header."""


def vmlinux(image: bytes) -> bytes | None:
    """Return the ELF kernel that a hypervisor can enter directly, None where the image has to decompress itself.

    That is no bzImage, an unknown compression, or a kernel without PVH. Raises DamagedKernelError.
    """
    payload = _payload(image)
    unpack = next((unpack for magic, unpack in UNPACKERS.items() if payload.startswith(magic)), None)
    if unpack is None:
        return None
    try:
        kernel = unpack(payload, SIZE_LIMIT)
    except compression.DecompressionError as error:
        raise DamagedKernelError(str(error)) from error
    # the kernel's build appends the size in four bytes, as gzip does itself
    if len(kernel) != struct.unpack_from("<I", payload, len(payload) - 4)[0]:
        raise DamagedKernelError("the decompressed kernel has another size than its header says")
    return kernel if _has_pvh_entry(kernel) else None


def _payload(image: bytes) -> bytes:
    """Return the compressed kernel; empty where the header is not a bzImage's. Raises DamagedKernelError."""
    if len(image) < HEADER_END or image[MAGIC : MAGIC + 4] != b"HdrS":
        return b""
    if struct.unpack_from("<H", image, PROTOCOL)[0] < FIRST_PROTOCOL_WITH_PAYLOAD:
        return b""
    setup = (image[SETUP_SECTORS] or DEFAULT_SETUP_SECTORS) + 1  # plus the boot sector
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    payload = image[setup * SECTOR + offset :][:length]
    if len(payload) != length or length < 4:
        raise DamagedKernelError("the kernel ends before its payload")
    return payload


UNPACKERS: dict[bytes, Callable[[bytes, int], bytes]] = {
    b"\x1f\x8b": compression.gunzip,
    b"\xfd7zXZ\x00": compression.unxz,
    b"\x28\xb5\x2f\xfd": compression.unzstd,
}


def _has_pvh_entry(kernel: bytes) -> bool:
    if not kernel.startswith(ELF64):
        return False
    try:
        return any(name == b"Xen\0" and kind == PVH_ENTRY for name, kind in _notes(kernel))
    except (struct.error, OverflowError) as error:
        raise DamagedKernelError("the decompressed kernel is not a complete ELF file") from error


def _notes(kernel: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the name and kind of each note of an ELF64 file."""
    table = struct.unpack_from("<Q", kernel, 0x20)[0]
    entry_size, entries = struct.unpack_from("<HH", kernel, 0x36)
    for index in range(min(entries, SEGMENTS)):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", kernel, table + index * entry_size)
        end = offset + min(size, NOTES_SIZE)
        while kind == PT_NOTE and offset + 12 <= end:
            name_size, content_size, note = struct.unpack_from("<III", kernel, offset)
            yield kernel[offset + 12 : offset + 12 + min(name_size, 16)], note
            offset += 12 + -(-name_size // 4) * 4 + -(-content_size // 4) * 4
