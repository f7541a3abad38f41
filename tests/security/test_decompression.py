"""A few kilobytes of foreign data never expand to gigabytes of memory or disk."""

import gzip
import io
import json
import lzma
import os
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from b2d.errors import B2dError, ImageError
from b2d.formats import bzimage, bzimage_uncompressed
from b2d.formats.bzimage import DamagedKernelError, vmlinux
from b2d.formats.bzimage_uncompressed import UnfitKernelError
from b2d.formats.iso9660 import read_volume
from b2d.image import boot_files
from b2d.image.build import apt_repository, deb, kernel_modules
from b2d.image.build.fs_tree import Tree
from b2d.image.build.package_cache import RemoteFile
from b2d.paths import Home, ImagePaths
from tests.support.kernel_images import a_b2d_iso, a_bzimage, an_elf, pack
from tests.support.timing import cpu_limit

MIB = 1 << 20
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda content: lzma.compress(content, check=lzma.CHECK_CRC32),
    "zstd": zstandard.compress,
}


def zeros(form: str, size: int) -> bytes:
    """Return compressed zeros of that size."""
    return PACKERS[form](bytes(size))


def image(folder: Path, **changes: bytes | None) -> ImagePaths:
    paths = Home(folder).image("0" * 64)
    paths.folder.mkdir(parents=True, exist_ok=True)
    paths.iso.write_bytes(a_b2d_iso(**changes))
    return paths


def assert_nothing_kept(paths: ImagePaths) -> None:
    assert [path.name for path in paths.folder.iterdir()] == [paths.iso.name]


@pytest.mark.parametrize("form", list(PACKERS))
def test_a_kernel_that_decompresses_above_the_limit_is_damaged(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bzimage, "SIZE_LIMIT", MIB)
    payload = zeros(form, 9 * MIB)
    size = b"" if form == "gzip" else struct.pack("<I", 9 * MIB)
    with pytest.raises(DamagedKernelError, match="larger than"):
        vmlinux(a_bzimage(payload + size))


def test_an_initrd_that_decompresses_above_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_files, "INITRD_LIMIT", MIB)
    paths = image(tmp_path, initrd=zeros("zstd", 9 * MIB))
    with pytest.raises(ImageError, match="damaged"):
        boot_files.unpack(paths)
    assert_nothing_kept(paths)


BOMB = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (1500 << 20, 1500 << 20))
from b2d.image import boot_files
from b2d.errors import ImageError
from b2d.paths import Home, ImagePaths
try:
    boot_files.unpack(Home(Path(sys.argv[1])).image("0" * 64))
except ImageError:
    sys.exit(7)
"""


def test_an_initrd_of_gigabytes_does_not_fill_memory(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    packed = b"".join(packer.compress(bytes(64 * MIB)) for _ in range(64)) + packer.flush()
    assert len(packed) < MIB
    image(tmp_path, initrd=packed)
    completed = subprocess.run(
        [sys.executable, "-c", BOMB, str(tmp_path)], capture_output=True, timeout=120, check=False
    )
    assert completed.returncode == 7, completed.stderr.decode()


def test_a_file_of_an_iso_above_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_files, "FILE_LIMIT", MIB)
    for name in ("kernel", "initrd"):
        with pytest.raises(ImageError, match="damaged"):
            boot_files.unpack(image(tmp_path, **{name: bytes(2 * MIB)}))
    with pytest.raises(ImageError, match="damaged"):
        boot_files.unpack(image(tmp_path, image=b"[" * (2 * MIB)))


@pytest.mark.parametrize("description", [b"[" * 100_000, b'{"a":' * 100_000, b"7", b"[]", b"\xff\xfe", b"9" * 5000])
def test_an_invalid_description_is_reported_as_damage(tmp_path: Path, description: bytes) -> None:
    with pytest.raises(ImageError, match="damaged"):
        boot_files.unpack(image(tmp_path, image=description))


def headed(content: bytes, segments: int, size: int) -> bytes:
    """Return an ELF kernel with that number of segments, each covering the whole kernel."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", *(b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, segments, 0, 0, 0)
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0x1000000, size, size, 4096)
    return header + load * segments + content


@pytest.mark.parametrize(
    "kernel",
    [
        headed(b"", 1, 64)[:72] + struct.pack("<QQQQQ", 0, 0, 0xFFFF0000, 64, 64) + bytes(100),
        headed(bytes(MIB), 60, MIB),
        headed(bytes(MIB), 5000, MIB),
        headed(b"", 1, 1 << 60),
        b"\x7fELF\x02\x01\x01" + b"\xff" * 200,
    ],
    ids=["far away", "shared content", "many segments", "beyond the end", "nonsense"],
)
def test_a_kernel_that_needs_gigabytes_of_memory_is_unfit(kernel: bytes) -> None:
    with pytest.raises(UnfitKernelError):
        bzimage_uncompressed.uncompressed_kernel(a_bzimage(pack(an_elf(), "zstd")), kernel)


def test_endless_notes_of_a_kernel_are_not_followed() -> None:
    size = 4 * MIB
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", *(b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000, 64, 0, 0, 64, 56, 60000, 0, 0, 0)
    )
    notes = struct.pack("<IIQQQQQQ", 4, 4, 64 + 56 * 60000, 0, 0, size, size, 4) * 60000
    with cpu_limit(20):
        assert vmlinux(a_bzimage(pack(header + notes + bytes(size), "zstd"))) is None


def package(folder: Path, ending: str, packed: bytes) -> Path:
    """Return a .deb with this data archive."""
    path = folder / "x.deb"
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", b""), (f"data.tar.{ending}", packed)]
    content = b"!<arch>\n"
    for name, data in members:
        content += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    path.write_bytes(content)
    return path


def tar_of(size: int, **facts: object) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("usr/x")
        entry.size = size
        for key, value in facts.items():
            setattr(entry, key, value)
        tar.addfile(entry, io.BytesIO(bytes(size)))
    return archive.getvalue()


@pytest.mark.parametrize("form", ["zstd", "xz"])
def test_a_package_with_a_file_above_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(deb, "DATA_LIMIT", 16 * MIB)
    monkeypatch.setattr(deb, "FILE_LIMIT", MIB)
    ending = "zst" if form == "zstd" else "xz"
    with pytest.raises(ImageError):
        deb.unpack(package(tmp_path, ending, PACKERS[form](tar_of(2 * MIB))), "x", Tree(), lambda _: True)
    if form == "zstd":
        with pytest.raises(ImageError, match="larger than"):
            deb.unpack(package(tmp_path, ending, zeros(form, 20 * MIB)), "x", Tree(), lambda _: True)


def test_a_hard_link_to_a_file_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target itself is not wanted, so its size was never checked."""
    monkeypatch.setattr(deb, "FILE_LIMIT", MIB)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        large, link = tarfile.TarInfo("usr/share/doc/x"), tarfile.TarInfo("usr/bin/x")
        large.size = 2 * MIB
        tar.addfile(large, io.BytesIO(bytes(large.size)))
        link.type, link.linkname = tarfile.LNKTYPE, large.name
        tar.addfile(link)
    with pytest.raises(ImageError, match="contains a file of more than"):
        deb.unpack(
            package(tmp_path, "xz", lzma.compress(archive.getvalue())), "x", Tree(), lambda path: "doc" not in path
        )


def test_a_package_with_a_large_sparse_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", 3 << 30)
    archive = subprocess.run(["tar", "-S", "-C", str(tmp_path), "-c", "x"], stdout=subprocess.PIPE, check=True).stdout
    with pytest.raises(ImageError, match="contains a file of"):
        deb.unpack(package(tmp_path, "xz", lzma.compress(archive)), "x", Tree(), lambda _: True)


def test_a_decompression_bomb_as_package_index_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_repository, "INDEX_LIMIT", MIB)
    (tmp_path / "index").write_bytes(zeros("xz", 9 * MIB))
    with pytest.raises(ImageError, match="cannot be unpacked"):
        apt_repository._decompress(tmp_path / "index", RemoteFile("index", "http://x", 1, "0"))


def test_a_decompression_bomb_as_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_modules, "MODULE_LIMIT", MIB)
    with pytest.raises(B2dError, match="cannot be unpacked"):
        kernel_modules._decompress("x.ko.xz", zeros("xz", 9 * MIB))
    with pytest.raises(B2dError, match="cannot be unpacked"):
        kernel_modules._decompress("x.ko.xz", b"\xfd7zXZ\0" + json.dumps({}).encode())


@pytest.mark.parametrize("other", ["fifo", "device", "folder"])
def test_an_iso_that_is_a_special_file_is_refused_without_blocking(tmp_path: Path, other: str) -> None:
    path = Path("/dev/zero") if other == "device" else tmp_path / "x.iso"
    if other == "fifo":
        os.mkfifo(path)
    elif other == "folder":
        path.mkdir()
    with pytest.raises(OSError, match="not a file"):
        read_volume(path)
