"""An uncompressed squashfs holds the same files as the compressed one."""

import os
from pathlib import Path

import pytest

from b2d.host import processes
from b2d.image import uncompressed_iso
from b2d.image.build import squashfs as builder
from b2d.image.build.fs_tree import Tree, file, folder, link
from b2d.models import Extent

CONTENT = b"the same words again and again\n" * 10_000


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    tree = Tree()
    tree.put("usr/bin/sudo", file(CONTENT, 0o4755))
    tree.put("etc/shadow", file(b"secret\n", 0o600))
    tree.put("home/docker", folder(0o750))
    tree.put("bin", link("usr/bin"))
    path = tmp_path / "packed"
    builder.pack(tree, 1_700_000_000, path)
    return path


def whole(path: Path) -> Extent:
    return Extent(0, path.stat().st_size)


def listed(path: Path) -> list[bytes]:
    listing = processes.check(["unsquashfs", "-llnumeric", str(path)], timeout_s=20)
    return sorted(line for line in listing.splitlines() if b"squashfs-root" in line)


def test_it_contains_the_same_files_with_owners_and_modes(packed: Path, tmp_path: Path) -> None:
    written = tmp_path / "stored"
    assert uncompressed_iso.write_rootfs(packed, whole(packed), written)
    assert listed(written) == listed(packed)
    assert any(line.startswith(b"-rwsr-xr-x 0/0") and b"sudo" in line for line in listed(written))
    assert any(line.startswith(b"drwxr-x--- 0/0") and b"home/docker" in line for line in listed(written))
    assert processes.check(["unsquashfs", "-cat", str(written), "usr/bin/sudo"], timeout_s=20) == CONTENT


def test_it_is_uncompressed_and_private(packed: Path, tmp_path: Path) -> None:
    written = tmp_path / "stored"
    uncompressed_iso.write_rootfs(packed, whole(packed), written)
    block = 256 << 10  # bytes; tails of files are packed into fragments
    assert CONTENT[:block] in written.read_bytes()
    assert CONTENT[block:] in written.read_bytes()
    assert CONTENT not in packed.read_bytes()
    assert written.stat().st_mode & 0o777 == 0o600


def test_writing_twice_produces_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        uncompressed_iso.write_rootfs(packed, whole(packed), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_no_program_of_this_host_is_needed(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert uncompressed_iso.write_rootfs(packed, whole(packed), tmp_path / "stored")


def test_a_damaged_squashfs_is_not_converted(packed: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(packed.read_bytes()[:200])
    assert not uncompressed_iso.write_rootfs(damaged, whole(damaged), tmp_path / "stored")
    assert sorted(os.listdir(tmp_path)) == ["damaged", "packed"]  # noqa: PTH208
