"""The checked file is the copied one, even when a disk or a folder above it is replaced for a moment."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2d.drivers.qemu.disk_import import ImageCopy, check_disk
from b2d.errors import B2dError
from tests.support.requirements import require

SECRET = b"a key of the owner's" * 100
pytestmark = pytest.mark.needs("linux", "qemu-img")  # other systems open a file by its name


@contextmanager
def exchanged(first: Path, other: Path) -> Iterator[None]:
    """Exchange the names of both folders during the block; the files' metadata stays the same."""
    aside = first.with_name("aside")
    for turn in range(2):
        first.rename(aside)
        other.rename(first)
        aside.rename(other)
        if turn == 0:
            yield


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Create a valid disk, and in the folder `evil` one of the same name with a secret as its backing file."""
    (tmp_path / "secret").write_bytes(SECRET)
    for name, more in (("good", ()), ("evil", ("-b", str(tmp_path / "secret"), "-F", "raw"))):
        (tmp_path / name).mkdir()
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, tmp_path / name / "disk", "1M"], check=True)
    return tmp_path / "good" / "disk"


def test_a_disk_replaced_after_the_check_is_not_read(disk: Path, tmp_path: Path) -> None:
    copy, target = ImageCopy(disk, "vdi"), tmp_path / "target"
    assert copy.size == 1 << 20
    with exchanged(disk.parent, tmp_path / "evil"):
        assert copy.room() > 0
        assert copy.read(0, 4096) == bytes(4096)
        copy.copy(target, lambda _: None)
    assert SECRET[:512] not in target.read_bytes()


@pytest.mark.parametrize("condition", ["others may write", "a group may write", "it is another user's"])
def test_a_disk_that_another_user_can_write_is_refused(disk: Path, condition: str) -> None:
    """A write through an existing mapping changes no timestamp of the file."""
    disk.chmod({"others may write": 0o646, "a group may write": 0o664}.get(condition, 0o600))
    if condition != "others may write":
        require("root")
        os.chown(disk, *((0, 65534) if condition == "a group may write" else (65534, 0)))
    with pytest.raises(B2dError, match="could be changed by another user"):
        check_disk(disk)
    with pytest.raises(B2dError, match="could be changed by another user"):
        ImageCopy(disk, "vdi").room()


@pytest.mark.parametrize("mode", [0o664, 0o444, 0o600])
def test_a_disk_that_only_its_owner_and_their_group_can_write_is_accepted(disk: Path, mode: int) -> None:
    disk.chmod(mode)
    assert check_disk(disk) == "qcow2"


def test_an_error_of_qemu_img_shows_the_typed_path(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"virtual-size": 512, "format": "qcow2", "filename": "%s"}
    script = f"case $1 in info) printf '{json.dumps(facts)}' \"$5\" ;; *) echo \"no: '$7'\" >&2; exit 1 ;; esac"
    program = tmp_path / "bin" / "qemu-img"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    with pytest.raises(B2dError) as caught:
        ImageCopy(disk, "vdi").copy(tmp_path / "target", lambda _: None)
    assert caught.value.message == f"qemu-img failed: no: '{disk}'"
    assert "/proc/self" not in f"{caught.value.message}{caught.value.details}"
