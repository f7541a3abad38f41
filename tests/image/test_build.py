"""b2d's own image, built for real from a Debian mirror: small, complete, reproducible, and built without root."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from pycdlib import PyCdlib

from b2d.image.build import recipe
from b2d.image.build.builder import manifest_path
from tests.support.cpio_reader import entries
from tests.support.paths import ROOT
from tests.support.timing import wall_limit

pytestmark = [pytest.mark.network, pytest.mark.needs("network")]

SIZE_LIMIT = 90_000_000  # bytes
WARM_LIMIT_S = 150  # on a quiet host it takes a third of that
NOBODY = 65534
BUILD_AS_NOBODY = f"""
import os, sys
from pathlib import Path
# all that is loaded on the way: Python's own folders may be closed to others
import debian.arfile, debian.deb822, debian.debian_support, elftools.elf.elffile, elftools.elf.sections
import encodings.idna, filelock, pycdlib.pycdlib, pysequoia, requests, zstandard
from b2d.image.build.builder import BuildRequest, build_image
from tests.support.fakes import FakeReporter

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
assert os.geteuid() != 0
recipe, cache, output = map(Path, sys.argv[1:])
build_image(BuildRequest("amd64", "", cache, output, recipe), FakeReporter())
"""


def content(iso: Path, path: str) -> bytes:
    """Return a file of an ISO."""
    opened = PyCdlib()
    opened.open(str(iso))
    with opened.open_file_from_iso(rr_path=path) as file:
        read: bytes = file.read()
    opened.close()
    return read


@pytest.fixture(scope="module")
def root(iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the image's root file system, a squashfs."""
    path = tmp_path_factory.mktemp("root") / "root.squashfs"
    path.write_bytes(content(iso, "/b2d/root.squashfs"))
    return path


def in_root(root: Path, *paths: str) -> dict[str, str]:
    """Return the mode and owner of paths of the root, as unsquashfs lists them."""
    completed = subprocess.run(
        ["unsquashfs", "-lln", "-d", "", str(root), *paths], capture_output=True, text=True, check=True
    )
    lines = (line.split() for line in completed.stdout.splitlines())
    return {words[5].lstrip("/"): f"{words[0]} {words[1]}" for words in lines if len(words) > 5}


def test_the_image_is_small(iso: Path) -> None:
    assert iso.stat().st_size <= SIZE_LIMIT


def test_a_second_build_is_identical_and_needs_no_root(iso: Path, test_cache: Path) -> None:
    with TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copytree(test_cache / "packages", work / "cache" / "packages")
        shutil.copytree(ROOT / "iso", work / "iso")
        if os.geteuid() == 0:
            for path in (work, *work.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        with wall_limit(WARM_LIMIT_S):
            subprocess.run(
                [sys.executable, "-c", BUILD_AS_NOBODY, work / "iso", work / "cache", work / "b2d.iso"],
                cwd=ROOT,
                check=True,
            )
        assert (work / "b2d.iso").read_bytes() == iso.read_bytes()
        assert manifest_path(work / "b2d.iso").read_bytes() == manifest_path(iso).read_bytes()


def test_the_manifest_names_every_package(iso: Path) -> None:
    manifest = json.loads(manifest_path(iso).read_text())
    assert content(iso, "/b2d/manifest.json") == manifest_path(iso).read_bytes()
    ours = recipe.read(recipe.find())
    packages = {package["name"]: package for package in manifest["packages"]}
    assert set(packages) >= {*ours.root_packages, *ours.medium_packages}
    assert len(packages) == len(ours.root_packages) + len(ours.medium_packages) + 1  # the kernel
    for package in packages.values():
        assert package["version"] and len(package["sha256"]) == 64
        assert package["licence"] and all(package["licence"])
    unknown = {
        name for name, package in packages.items() if any(licence.startswith("see") for licence in package["licence"])
    }
    assert unknown == {
        "libcrypt1",
        "libgcc-s1",
        "openssh-sftp-server",
    }  # prose, or in another package of the same source


def test_the_boot_loader_of_a_bios_is_found(iso: Path) -> None:
    opened = PyCdlib()
    opened.open(str(iso))
    assert opened.eltorito_boot_catalog is not None
    entry = opened.eltorito_boot_catalog.initial_entry
    loader = opened.get_record(rr_path="/isolinux/isolinux.bin").extent_location()
    opened.close()
    assert (entry.boot_indicator, entry.get_rba()) == (0x88, loader)
    configuration = content(iso, "/isolinux/isolinux.cfg").decode()
    assert "kernel /boot/vmlinuz" in configuration and "console=ttyS0" in configuration
    assert content(iso, "/boot/vmlinuz")[0x202:0x206] == b"HdrS"


def test_the_root_contains_the_files_and_modes_of_the_recipe(root: Path) -> None:
    modes = in_root(root)
    assert modes["etc/shadow"] == "-rw------- 0/0"
    assert modes["usr/lib/cargo/bin/sudo"] == "-rwsr-xr-x 0/0"
    assert {path for path, shown in modes.items() if not shown.endswith(" 0/0")} == set()
    assert modes["tmp"] == "drwxrwxrwt 0/0"
    for program in ("dockerd", "containerd", "crun", "docker", "iptables", "mkfs.ext4", "dropbear", "runc", "mount"):
        assert {f"usr/bin/{program}", f"usr/sbin/{program}"} & set(modes), program
    assert not [path for path in modes if path.startswith(("usr/share/doc/", "usr/share/man/", "boot/"))]


def test_all_libraries_of_the_programs_are_installed(root: Path, tmp_path: Path) -> None:
    """The recipe lists libraries by hand: a new version of a program may need another one."""
    subprocess.run(["unsquashfs", "-q", "-n", "-d", str(tmp_path / "root"), str(root)], check=True)
    files = [path for path in (tmp_path / "root/usr").rglob("*") if path.is_file() and not path.is_symlink()]
    present = {path.name for path in (tmp_path / "root/usr/lib").rglob("*.so*")}
    missing: dict[str, set[str]] = {}
    for path in files:
        with path.open("rb") as opened:
            if opened.read(4) != b"\x7fELF":
                continue
            dynamic = [section for section in ELFFile(opened).iter_sections() if isinstance(section, DynamicSection)]
            needed = {tag.needed for section in dynamic for tag in section.iter_tags("DT_NEEDED")}  # type: ignore[attr-defined]
        if needed - present:
            missing[path.name] = needed - present
    assert missing == {}


def test_symlinks_of_the_root_resolve(root: Path, tmp_path: Path) -> None:
    subprocess.run(["unsquashfs", "-q", "-n", "-d", str(tmp_path / "root"), str(root)], check=True)
    top = tmp_path / "root"
    at_run_time = ("/run", "/proc", "/dev")
    dangling = []
    for path in top.rglob("*"):
        if path.is_symlink():
            target = str(path.readlink())
            goal = top / target.lstrip("/") if target.startswith("/") else path.parent / target
            if not target.startswith(at_run_time) and not goal.exists():
                dangling.append(f"{path.relative_to(top)} -> {target}")
    assert dangling == []


def test_the_initrd_is_unpacked_by_its_own_busybox(iso: Path, tmp_path: Path) -> None:
    packed = zstandard.ZstdDecompressor().decompressobj().decompress(content(iso, "/boot/initrd"))
    by_path = {entry.path: entry for entry in entries(packed)}
    busybox = tmp_path / "busybox"
    busybox.write_bytes(by_path["bin/busybox"].content)
    busybox.chmod(0o755)
    (tmp_path / "out").mkdir()
    subprocess.run([busybox, "cpio", "-idm"], input=packed, cwd=tmp_path / "out", check=True, capture_output=True)
    for entry in by_path.values():
        path = tmp_path / "out" / entry.path
        assert path.lstat().st_mode == entry.mode
        if stat.S_ISREG(entry.mode):
            assert path.read_bytes() == entry.content
    assert "modules/virtio_blk.ko" in by_path and "init" in by_path
