"""A data disk is recognized by what the guest looks for, in any place where the guest looks, and by nothing else."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.formats.boot2docker_disk import LABEL, LABEL_AT, Read, is_ours
from b2d.formats.disk_reading import SECTOR
from tests.support import raw_disks


def reader(content: bytes) -> Read:
    return lambda offset, size: content[offset : offset + size]


def labelled(content: bytearray, sector: int, label: bytes = LABEL) -> bytearray:
    at = sector * SECTOR + LABEL_AT
    content[at : at + len(label)] = label
    return content


def gpt(sector: int, size: int = 128) -> bytearray:
    """Return a disk of boot2docker 18.09 with a GPT, where partition 1 comes second."""
    content = bytearray(4 << 20)
    content[450], content[510:512] = 0xEE, b"\x55\xaa"
    struct.pack_into("<8s64xQII", content, SECTOR, b"EFI PART", 2, 128, size)
    struct.pack_into("<16s16sQQ", content, 2 * SECTOR, b"data", b"one", sector, sector + 100)
    struct.pack_into("<16s16sQQ", content, 2 * SECTOR + size, b"swap", b"two", 2048, 4095)
    return content


def test_a_disk_marked_for_formatting_is_ours(tmp_path: Path) -> None:
    assert is_ours(reader(raw_disks.create_unformatted(tmp_path / "disk", 4).read_bytes()))


def test_a_disk_of_2014_is_ours(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert is_ours(reader(raw_disks.create_boot2docker_disk(tmp_path / "disk", 64, tmp_path / "tree").read_bytes()))


def test_a_disk_of_2018_is_ours(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert is_ours(reader(raw_disks.create_gpt_disk(tmp_path / "disk", 64, tmp_path / "tree").read_bytes()))


@pytest.mark.parametrize("size", [128, 256])
def test_a_disk_with_a_labelled_gpt_partition_is_ours(size: int) -> None:
    assert is_ours(reader(bytes(labelled(gpt(4096, size), 4096))))


def test_a_file_system_on_an_unpartitioned_disk_is_ours() -> None:
    assert is_ours(reader(bytes(labelled(bytearray(8192), 0))))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", bytes(1 << 20), bytes(gpt(4096)), bytes(labelled(gpt(4096), 4096, b"boot2docker-swap"))],
    ids=["empty", "text", "blank", "no label", "another label"],
)
def test_other_content_is_not_ours(content: bytes) -> None:
    assert not is_ours(reader(content))


@given(st.binary(max_size=2048), st.sampled_from([b"", b"\x55\xaa", b"EFI PART"]))
def test_any_content_is_classified(content: bytes, sign: bytes) -> None:
    at = SECTOR if sign == b"EFI PART" else SECTOR - len(sign)
    odd = bytearray(content.ljust(2048, b"\0"))
    odd[at : at + len(sign)] = sign
    assert is_ours(reader(bytes(odd))) in (True, False)
