"""A local image file has the same size limit as a download, also when it grows during the copy."""

import hashlib
import os
from pathlib import Path

import pytest

from b2d.errors import ImageError
from b2d.image import boot_files
from tests.support.cli import Prompt
from tests.support.kernel_images import an_iso


def test_a_file_above_the_limit_is_refused_before_the_copy(tmp_path: Path) -> None:
    iso = tmp_path / "large.iso"
    iso.write_bytes(an_iso("b2d-v26.1.5"))
    os.truncate(iso, boot_files.IMAGE_LIMIT + 1)
    at = Prompt(tmp_path)
    result = at.b2d("download", str(iso))
    assert result.code != 0
    assert result.err.splitlines()[-1].endswith("the limit for images")
    assert [path.name for path in at.home.images.iterdir() if path.name != ".lock"] == []


def test_a_file_that_grows_during_the_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_files, "IMAGE_LIMIT", 4 << 20)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(1 << 20))
    really = hashlib.sha256

    class Growing:
        """A hash that appends to the file with each piece."""

        def __init__(self) -> None:
            self._digest = really()

        def update(self, chunk: bytes) -> None:
            with source.open("ab") as file:
                file.write(chunk)

    monkeypatch.setattr(hashlib, "sha256", Growing)
    with pytest.raises(ImageError, match="the limit for images"):
        boot_files.copy(source, target)
    assert target.stat().st_size <= 5 << 20
