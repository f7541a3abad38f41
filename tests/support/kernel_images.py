"""Small kernels and images, built as the real ones are, for tests."""

import gzip
import io
import json
import lzma
import struct
from functools import cache

import zstandard
from pycdlib import PyCdlib

PVH_ENTRY = 18


def an_elf(note: int = PVH_ENTRY, filling: bytes = b"kernel " * 1000) -> bytes:
    """Return an ELF64 file with a Xen note, as a kernel with PVH has."""
    other = struct.pack("<III", 4, 3, 3) + b"GNU\0" + b"abc\0"
    notes = other + struct.pack("<III", 4, 8, note) + b"Xen\0" + struct.pack("<Q", 0x1000)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000, 64, 0, 0, 64, 56, 2, 0, 0, 0),
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, len(filling), len(filling), 4096)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 64 + 112, 0, 0, len(notes), len(notes), 4)
    return header + load + segment + notes + filling


def pack(kernel: bytes, form: str) -> bytes:
    """Return the payload of a bzImage: compressed data followed by its uncompressed size."""
    size = struct.pack("<I", len(kernel))
    if form == "zstd":
        packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
        return packer.compress(kernel) + packer.flush() + size
    if form == "xz":
        return lzma.compress(kernel, check=lzma.CHECK_CRC32) + size
    if form == "gzip":
        return gzip.compress(kernel)  # its own format ends with the size
    return b"\x02\x21\x4c\x18" + kernel + size  # lz4's legacy magic


def a_bzimage(payload: bytes, setup_sectors: int = 3, protocol: int = 0x20F) -> bytes:
    """Return a boot sector, setup code, unpacker, payload and trailing data."""
    head = bytearray((setup_sectors or 4) * 512 + 512)
    head[0x1F1] = setup_sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, protocol)
    struct.pack_into("<II", head, 0x248, 700, len(payload))
    return bytes(head) + bytes(700) + payload + b"behind it"


def an_iso(label: str = "b2d-v1.2.3-6.12.1", files: dict[str, bytes] | None = None, padding: int = 0) -> bytes:
    """Return an ISO with Rock Ridge names and folders one level deep."""
    iso = PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09", vol_ident=label)
    folders: set[str] = set()
    for number, (path, content) in enumerate((files or {"/version": b"1\n"}).items()):
        folder, _, name = path.rpartition("/")
        if folder and folder not in folders:
            folders.add(folder)
            iso.add_directory(folder.upper(), rr_name=folder[1:])
        iso.add_fp(io.BytesIO(content), len(content), f"{folder.upper()}/F{number}.;1", rr_name=name)
    written = io.BytesIO()
    iso.write_fp(written)
    iso.close()
    return written.getvalue() + bytes(padding)


@cache  # an ISO has a timestamp: the cache gives the same one for each call
def a_b2d_iso(version: str = "26.1.5-6.12.117", **changes: bytes | None) -> bytes:
    """Return an ISO as b2d builds it; `changes` are files (kernel, initrd, root, image); None omits one."""
    description = {
        "format": 1,
        "version": version,
        "kernel": "/boot/vmlinuz",
        "initrd": "/boot/initrd",
        "root": "/b2d/root.squashfs",
        "arguments": "console=tty0 quiet",
    }
    files = {
        "/boot/vmlinuz": changes.get("kernel", a_bzimage(pack(an_elf(), "zstd"))),
        "/boot/initrd": changes.get("initrd", zstandard.compress(b"070701 a cpio " * 500)),
        "/b2d/root.squashfs": changes.get("root", b"hsqs" + version.encode() * 3000),
        "/b2d/image.json": changes.get("image", json.dumps(description).encode()),
    }
    return an_iso(f"b2d-v{version}", {path: content for path, content in files.items() if content is not None})


def a_module(depends: str = "", aliases: tuple[str, ...] = (), signature: bytes = b"") -> bytes:
    """Return a kernel module: an ELF64 file with a section .modinfo, and with the signature if one is given."""
    modinfo = b"".join(
        f"{line}\0".encode() for line in (f"depends={depends}", *(f"alias={alias}" for alias in aliases))
    )
    names = b"\0.modinfo\0.shstrtab\0"
    start = 64 + 3 * 64
    sections = [(0, 0, 0, 0), (1, 1, start, len(modinfo)), (10, 3, start + len(modinfo), len(names))]
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", *(1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, len(sections), 2)
    )
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0) for name, kind, at, size in sections
    )
    module = header + table + modinfo + names
    if not signature:
        return module
    return module + signature + struct.pack(">8xI", len(signature)) + b"~Module signature appended~\n"
