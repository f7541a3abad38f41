"""The first sectors of an image are read as the standard says, whatever else is in the file."""

from pathlib import Path

import pytest

from b2d.iso9660 import is_web_page, read_volume
from tests.kernels import an_iso


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
def test_a_web_page_is_known_by_how_it_begins(start: bytes) -> None:
    assert is_web_page(start)


@pytest.mark.parametrize("start", [b"", bytes(512), b"{}", b"plain <html>"])
def test_other_things_are_no_web_page(start: bytes) -> None:
    assert not is_web_page(start)
