"""Disk images that name another file of this host, which QEMU or VirtualBox would then read."""

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support import raw_disks

SECTOR = 512
SECRET = b"TOP-SECRET-OF-THE-PERSON"
OFFSET = 0x00FFFFFFFFFFFE00  # the bits of a qcow2 table entry that are an offset
PARENT = 0x1A8, b"\1" * 16  # bytes of a VDI header


def secret(folder: Path) -> Path:
    """Create a file that must not be copied; its size is a whole number of sectors."""
    path = folder / "secret"
    path.write_bytes(SECRET.ljust(2 * SECTOR, b"."))
    return path


def a_begin(folder: Path) -> Path:
    """Create the start of a boot2docker disk, so that import gets as far as copying."""
    return raw_disks.create_unformatted(folder / "begin", 1)


def image(folder: Path, name: str, kind: str, *options: str) -> Path:
    """Create a valid disk with qemu-img that requests its formatting."""
    raw, path = raw_disks.create_unformatted(folder / f"{name}.raw", 8), folder / name
    chosen = ["-o", ",".join(options)] if options else []
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, *chosen, str(raw), str(path)], check=True)
    raw.unlink()
    return path


def descriptor(*extents: str, kind: str = "monolithicFlat", more: str = "", parent: str = "ffffffff") -> bytes:
    """Return the descriptor, in which a VMDK names its files."""
    lines = ["# Disk DescriptorFile", "version=1", "CID=1234abcd", f"parentCID={parent}", f'createType="{kind}"', more]
    data = ['ddb.adapterType = "ide"', 'ddb.geometry.cylinders = "16"', 'ddb.geometry.heads = "16"']
    return "\n".join([*lines, *extents, *data, 'ddb.geometry.sectors = "63"', ""]).encode()


def flat(path: Path) -> str:
    return f'RW {path.stat().st_size // SECTOR} FLAT "{path}" 0'


def vmdk_of_text(folder: Path) -> Path:
    path = folder / "evil.vmdk"
    path.write_bytes(descriptor(flat(a_begin(folder)), flat(secret(folder))))
    return path


def vmdk_of_text_behind_a_comment(folder: Path) -> Path:
    path = folder / "evil.vmdk"
    text = descriptor(flat(a_begin(folder)), flat(secret(folder)))
    path.write_bytes(b"# some words\n\n" + text.replace(b"# Disk DescriptorFile\n", b""))
    return path


def vmdk_of_capacity_0(folder: Path) -> Path:
    """Create a VMDK of capacity 0: QEMU follows it to the descriptor, which names the files."""
    path = folder / "evil.vmdk"
    header = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, 0, 128, 1, 20, 512, 0, 0, 128)
    text = descriptor(flat(a_begin(folder)), flat(secret(folder)))
    path.write_bytes((header.ljust(SECTOR, b"\0") + text).ljust(21 * SECTOR, b"\0"))
    return path


def _rewritten(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    begin, end = content[: 21 * SECTOR], content[21 * SECTOR :]
    path.write_bytes(begin.replace(old, new, 1)[: 21 * SECTOR].ljust(21 * SECTOR, b"\0") + end)
    return path


def vmdk_with_a_parent(folder: Path) -> Path:
    base = image(folder, "secret.vmdk", "vmdk")
    path = image(folder, "evil.vmdk", "vmdk")
    return _rewritten(path, b"\nparentCID=ffffffff", f'\nparentFileNameHint="{base}"\nparentCID=fffffffe'.encode())


def vmdk_with_a_parent_in_a_comment(folder: Path) -> Path:
    """Create a VMDK with the parent in a comment: QEMU looks for the word anywhere."""
    base = image(folder, "secret.vmdk", "vmdk")
    path = image(folder, "evil.vmdk", "vmdk")
    return _rewritten(path, b"\nversion=1", f'\n# parentFileNameHint="{base}"\nversion=1'.encode())


def vmdk_with_a_second_extent(folder: Path) -> Path:
    path = image(folder, "evil.vmdk", "vmdk")
    return _rewritten(path, b'"evil.vmdk"', b'"evil.vmdk"\n' + flat(secret(folder)).encode())


def vmdk_with_another_extent(folder: Path) -> Path:
    path = image(folder, "evil.vmdk", "vmdk")
    return _rewritten(path, b'"evil.vmdk"', f'"{secret(folder)}"'.encode())


def vmdk_with_a_neighbour(folder: Path) -> Path:
    secret(folder)
    return _rewritten(image(folder, "evil.vmdk", "vmdk"), b'"evil.vmdk"', b'"secret"')


def vmdk_with_a_footer_of_capacity_0(folder: Path) -> Path:
    path = image(folder, "evil.vmdk", "vmdk", "subformat=streamOptimized")
    content = bytearray(path.read_bytes().ljust(-(-path.stat().st_size // SECTOR) * SECTOR, b"\0"))
    footer = bytearray(content[:SECTOR])
    struct.pack_into("<Q", footer, 12, 0)
    struct.pack_into("<Q", content, 56, (1 << 64) - 1)
    path.write_bytes(bytes(content) + struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0") + footer + bytes(SECTOR))
    return path


def vmdk_of_a_lone_extent(folder: Path) -> Path:
    image(folder, "whole.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse")
    return folder / "whole-s001.vmdk"


def vmdk_of_esx(folder: Path) -> Path:
    return raw_disks.write_at(raw_disks.create_unformatted(folder / "evil.vmdk", 1), 0, b"COWD")


def with_a_backing_file(folder: Path, kind: str, *options: str) -> Path:
    path = folder / f"evil.{kind}"
    backing = ["-F", "raw", "-b", str(secret(folder))]
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, *backing, str(path)], check=True)
    return path


def qcow2_with_a_backing_file(folder: Path) -> Path:
    return with_a_backing_file(folder, "qcow2")


def old_qcow2_with_a_backing_file(folder: Path) -> Path:
    return with_a_backing_file(folder, "qcow2", "-o", "compat=0.10")


def qcow2_with_an_external_data_file(folder: Path) -> Path:
    raw = secret(folder)
    path = image(folder, "evil.qcow2", "qcow2", f"data_file={folder}/made", "data_file_raw=on")
    (folder / "made").write_bytes(a_begin(folder).read_bytes().ljust(8 << 20, b"\0")[: -2 * SECTOR] + raw.read_bytes())
    return path


def qcow2_with_the_name_of_a_data_file_alone(folder: Path) -> Path:
    path = image(folder, "evil.qcow2", "qcow2")
    name = os_bytes(secret(folder))
    extension = struct.pack(">II", 0x44415441, len(name)) + name.ljust(-(-len(name) // 8) * 8, b"\0")
    return raw_disks.write_at(path, struct.unpack(">I", path.read_bytes()[100:104])[0], extension)


def qcow2_of_an_unknown_feature(folder: Path) -> Path:
    return raw_disks.write_at(image(folder, "evil.qcow2", "qcow2"), 72, struct.pack(">Q", 1 << 40))


def qcow2_encrypted(folder: Path) -> Path:
    return raw_disks.write_at(image(folder, "evil.qcow2", "qcow2"), 32, struct.pack(">I", 2))


def qcow_of_version_1(folder: Path) -> Path:
    return raw_disks.write_at(image(folder, "evil.qcow2", "qcow2"), 4, struct.pack(">I", 1))


def vdi_differencing(folder: Path) -> Path:
    return raw_disks.write_at(raw_disks.write_at(image(folder, "evil.vdi", "vdi"), 0x4C, struct.pack("<I", 4)), *PARENT)


def vdi_dynamic_with_a_parent(folder: Path) -> Path:
    return raw_disks.write_at(image(folder, "evil.vdi", "vdi"), PARENT[0] + 16, PARENT[1])


def vhd_differencing(folder: Path) -> Path:
    path = image(folder, "evil.vhd", "vpc")
    return raw_disks.write_at(raw_disks.write_at(path, 60, struct.pack(">I", 4)), -SECTOR + 60, struct.pack(">I", 4))


def vhd_that_differs_at_its_begin(folder: Path) -> Path:
    return raw_disks.write_at(image(folder, "evil.vhd", "vpc"), 60, struct.pack(">I", 4))


def vhd_with_a_locator(folder: Path) -> Path:
    return raw_disks.write_at(image(folder, "evil.vhd", "vpc"), 512 + 576, b"W2ku")


def vhdx_with_a_parent(folder: Path) -> Path:
    path = image(folder, "evil.vhdx", "vhdx")
    content = path.read_bytes()
    table = content.index(b"metadata")
    offset = struct.unpack_from("<I", content, table + 32 + 16)[0]
    return raw_disks.write_at(path, table + offset + 4, struct.pack("<I", 2))


def qed_with_a_backing_file(folder: Path) -> Path:
    return with_a_backing_file(folder, "qed")


def two_formats_at_once(folder: Path) -> Path:
    path = image(folder, "evil.vdi", "vdi")
    return raw_disks.write_at(path, -SECTOR, image(folder, "evil.vhd", "vpc", "subformat=fixed").read_bytes()[-SECTOR:])


def os_bytes(path: Path) -> bytes:
    return str(path).encode()


ALL: list[Callable[[Path], Path]] = [
    vmdk_of_text,
    vmdk_of_text_behind_a_comment,
    vmdk_of_capacity_0,
    vmdk_with_a_parent,
    vmdk_with_a_parent_in_a_comment,
    vmdk_with_a_second_extent,
    vmdk_with_another_extent,
    vmdk_with_a_neighbour,
    vmdk_with_a_footer_of_capacity_0,
    vmdk_of_a_lone_extent,
    vmdk_of_esx,
    qcow2_with_a_backing_file,
    old_qcow2_with_a_backing_file,
    qcow2_with_an_external_data_file,
    qcow2_with_the_name_of_a_data_file_alone,
    qcow2_of_an_unknown_feature,
    qcow2_encrypted,
    qcow_of_version_1,
    vdi_differencing,
    vdi_dynamic_with_a_parent,
    vhd_differencing,
    vhd_that_differs_at_its_begin,
    vhd_with_a_locator,
    vhdx_with_a_parent,
    qed_with_a_backing_file,
    two_formats_at_once,
]
