"""The first sectors of an image are read according to the standard, whatever else is in the file."""

import struct
from pathlib import Path

import pytest

from b2d.formats.iso9660 import DESCRIPTOR, SECTOR, has_few_records, is_web_page, read_volume
from tests.support.kernel_images import an_iso


def test_the_label_and_size_are_those_of_the_volume(tmp_path: Path) -> None:
    content = an_iso("b2d-v26.1.5-6.12.117")
    (tmp_path / "one.iso").write_bytes(content + bytes(10_000))
    volume = read_volume(tmp_path / "one.iso")
    assert volume.label == "b2d-v26.1.5-6.12.117"
    assert volume.version == "26.1.5-6.12.117"
    assert volume.size == len(content)


@pytest.mark.parametrize(
    "start", [b"<html>", b"\n\n <!DOCTYPE HTML PUBLIC", b"\xef\xbb\xbf<!doctype html>", b"<!-- a portal -->"]
)
def test_a_web_page_is_recognised_by_its_beginning(start: bytes) -> None:
    assert is_web_page(start)


@pytest.mark.parametrize("start", [b"", bytes(512), b"{}", b"plain <html>"])
def test_other_content_is_not_a_web_page(start: bytes) -> None:
    assert not is_web_page(start)


ROOT_AT = DESCRIPTOR + 156


def root_of(content: bytes) -> tuple[int, int]:
    """Return the first sector and the size in bytes of the root folder."""
    return struct.unpack_from("<I", content, ROOT_AT + 2)[0], struct.unpack_from("<I", content, ROOT_AT + 10)[0]


def patched(path: Path, content: bytes, at: int, new: bytes) -> Path:
    path.write_bytes(content[:at] + new + content[at + len(new) :])
    return path


def test_an_image_with_few_folders_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "one.iso"
    path.write_bytes(an_iso(files={"/boot/kernel": b"x", "/b2d/image.json": b"{}"}))
    assert has_few_records(path)
    table = struct.unpack_from("<I", path.read_bytes(), DESCRIPTOR + 132)[0]
    assert has_few_records(path, 3 * SECTOR + table)
    assert not has_few_records(path, 3 * SECTOR + table - 1), "the root, boot, b2d, and the path table"


def test_an_image_with_too_many_records_is_recognised_before_they_are_read(tmp_path: Path) -> None:
    """Objects for two million files take two gigabytes; the image has 85 MiB."""
    content = an_iso(files={"/boot/kernel": b"x"})
    wide = patched(tmp_path / "wide.iso", content, ROOT_AT + 10, struct.pack("<I", 3 << 30))
    assert not has_few_records(wide)
    table = patched(tmp_path / "table.iso", content, DESCRIPTOR + 132, struct.pack("<I", 3 << 30))
    assert not has_few_records(table)
    small = patched(tmp_path / "small.iso", content, DESCRIPTOR + 128, struct.pack("<H", 512))
    assert not has_few_records(small), "its folders lie somewhere else for the library"
    joliet = content[DESCRIPTOR : DESCRIPTOR + SECTOR].replace(b"\1CD001", b"\2CD001", 1)
    joliet = joliet[:166] + struct.pack("<I", 3 << 30) + joliet[170:]
    assert not has_few_records(patched(tmp_path / "joliet.iso", content, DESCRIPTOR + SECTOR, joliet))
    udf = b"\0BEA01" + bytes(SECTOR - 6)
    assert not has_few_records(patched(tmp_path / "udf.iso", content, DESCRIPTOR + SECTOR, udf))


def test_a_folder_that_contains_itself_is_visited_once(tmp_path: Path) -> None:
    content = an_iso(files={"/boot/kernel": b"x"})
    sector, size = root_of(content)
    where = content.index(b"BOOT", sector * SECTOR) - 33
    assert where < sector * SECTOR + size
    loop = patched(tmp_path / "loop.iso", content, where + 2, struct.pack("<I", sector))
    assert has_few_records(loop, 2 * SECTOR)
