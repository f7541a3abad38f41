"""A virtual disk is recognized by its headers only; a VMDK's own name for itself is read."""

import io
import struct

import pytest

from b2d.formats.disk_image import DiskImage, inspect
from b2d.formats.disk_reading import DiskImageError, read_at
from b2d.formats.vmdk import is_text_descriptor

SECTOR = 512
TEXT = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="{kind}"

# Extent description
RW 2048 SPARSE "{name}"

# The disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.adapterType="ide"
ddb.geometry.cylinders="2"
ddb.geometry.heads="16"
ddb.geometry.sectors="63"
ddb.uuid.image="11111111-2222-3333-4444-555555555555"
ddb.uuid.parent="00000000-0000-0000-0000-000000000000"
ddb.uuid.modification="11111111-2222-3333-4444-555555555555"
ddb.uuid.parentmodification="00000000-0000-0000-0000-000000000000"
ddb.comment=""
"""


def a_vmdk(text: str, sectors: int = 20) -> bytes:
    """Return a sparse VMDK with this descriptor, as VirtualBox writes it."""
    header = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, 2048, 128, 1, sectors, 512, 21, 26, 128)
    return (header.ljust(SECTOR, b"\0") + text.encode()).ljust(128 * SECTOR, b"\0")


def of(content: bytes, *, child: bool = False) -> DiskImage:
    return inspect(io.BytesIO(content), child=child)


@pytest.mark.parametrize("kind", ["monolithicSparse", "streamOptimized"])
def test_a_vmdk_of_virtualbox_has_one_extent(kind: str) -> None:
    assert of(a_vmdk(TEXT.format(kind=kind, name="disk.vmdk"))) == DiskImage("vmdk", "disk.vmdk")
    assert of(a_vmdk(TEXT.format(kind=kind, name="disk.vmdk").replace("\n", "\r\n"))).extent == "disk.vmdk"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('SPARSE "disk.vmdk"', 'SPARSE "/etc/shadow"'),
        ('SPARSE "disk.vmdk"', 'SPARSE "..\\\\x"'),
        ('SPARSE "disk.vmdk"', 'SPARSE ".."'),
        ('SPARSE "disk.vmdk"', 'FLAT "disk.vmdk" 0'),
        ('SPARSE "disk.vmdk"', 'SPARSE "disk.vmdk" 7'),
        ('RW 2048 SPARSE "disk.vmdk"', ""),
        ("monolithicSparse", "monolithicFlat"),
        ("monolithicSparse", "vmfsSparse"),
        ("parentCID=ffffffff", ""),
        ("parentCID=ffffffff", "parentCID=00000001"),
        ("version=1", "version=1\nversion=1"),
        ("version=1", 'version=1\nchangeTrackPath="x"'),
        ("# The disk", "# ParentFileNameHint"),
        ('ddb.uuid.parent="00000000-', 'ddb.uuid.parent="10000000-'),
        ('ddb.comment=""', 'ddb.objectParentUri="x"'),
    ],
)
def test_a_descriptor_with_unexpected_content_is_refused(old: str, new: str) -> None:
    text = TEXT.format(kind="monolithicSparse", name="disk.vmdk")
    assert old in text
    with pytest.raises(DiskImageError):
        of(a_vmdk(text.replace(old, new)))


def test_a_virtualbox_layer_may_name_its_parent_by_uuid_and_not_by_path() -> None:
    text = TEXT.format(kind="monolithicSparse", name="disk.vmdk")
    layer = text.replace('parent="00000000-', 'parent="10000000-').replace("parentCID=ffffffff", "parentCID=00000001")
    assert of(a_vmdk(layer), child=True).format == "vmdk"
    with pytest.raises(DiskImageError, match="another disk"):
        of(a_vmdk(layer))
    with pytest.raises(DiskImageError, match="another disk"):
        of(a_vmdk(layer.replace("version=1", 'version=1\nparentFileNameHint="/x"')), child=True)


def test_text_behind_a_short_descriptor_counts_as_in_qemu() -> None:
    text = TEXT.format(kind="monolithicSparse", name="disk.vmdk")
    long = text + "#" * (2 * SECTOR - len(text)) + '\nparentFileNameHint="/etc/shadow"\n'
    with pytest.raises(DiskImageError):
        of(a_vmdk(long, sectors=2))


@pytest.mark.parametrize(
    "begin", [b"# Disk DescriptorFile\n", b"\n# x\nversion=1\n", b"\xef\xbb\xbf# disk descriptorfile"]
)
def test_a_descriptor_without_data_is_recognised_and_refused(begin: bytes) -> None:
    assert is_text_descriptor(begin)
    with pytest.raises(DiskImageError, match="only refers to other files"):
        of(begin)


@pytest.mark.parametrize("begin", [b"boot2docker, please format-me", b"\0" * 512, b"# x\n", b"hello"])
def test_a_file_without_a_header_is_raw(begin: bytes) -> None:
    assert of(begin.ljust(4096, b"\0")) == DiskImage("raw")


@pytest.mark.parametrize(
    "content", [b"", b"QFI\xfb", b"KDMV", b"vhdxfile", bytes(64) + b"\x7f\x10\xda\xbe", b"conectix"]
)
def test_a_truncated_image_is_damaged(content: bytes) -> None:
    with pytest.raises(DiskImageError):
        of(content)


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, -1), (0, 5), (4, 1), (1 << 70, 1)])
def test_reading_outside_the_file_is_an_error(offset: int, size: int) -> None:
    with pytest.raises(DiskImageError):
        read_at(io.BytesIO(b"1234"), offset, size)
