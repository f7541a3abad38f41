"""Nothing in an image becomes a command of this host, or a file outside of the image store (C1)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2d.formats.squashfs import write_uncompressed
from b2d.formats.squashfs_tables import SquashfsError
from b2d.image import uncompressed_iso
from b2d.image.image_store import ImageStore
from b2d.models import Extent
from b2d.paths import Home
from tests.support.cli import Prompt
from tests.support.paths import ROOT

COMMANDS = (
    "x\nevil f 755 0 0 touch {place}; echo hi\n# ",
    "$(touch {place})",
    "`touch {place}`",
    "'; touch {place}; '",
    "\nevil s 777 0 0 {place}\n",
    "a b\tc\\nd",
)
PACKERS = ("zstd", "gzip", "xz")


@pytest.fixture
def place() -> Iterator[Path]:
    """Return the path where an injected command would leave its trace; short, as names have at most 255 bytes."""
    folder = Path("/tmp") / f"b2d-{os.getpid()}"
    folder.mkdir()
    yield folder / "PWNED"
    shutil.rmtree(folder)


@pytest.fixture
def tree(tmp_path: Path, place: Path) -> Path:
    """Create a tree with commands as names and link targets, with a file of each type."""
    root = tmp_path / "tree"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/file").write_bytes(b"content\n" * 100_000)
    for number, text in enumerate(COMMANDS):
        (root / f"link{number}").symlink_to(text.format(place=place))
        (root / f"{number} {text.format(place='x').replace('/', '_')}").write_text("x")
    os.mkfifo(root / "fifo")
    return root


def packed(tree: Path, path: Path, packer: str = "zstd", *options: str) -> Path:
    subprocess.run(
        ["mksquashfs", str(tree), str(path), "-comp", packer, "-no-progress", "-quiet", *options], check=True
    )
    return path


def an_iso(squashfs: Path, path: Path, iso: Path) -> Path:
    """Create an image as b2d does, with another root."""
    from b2d.formats import iso_writer, suites
    from b2d.image import boot_files

    with boot_files._open_iso(iso) as opened:
        assert opened is not None
        names = (*boot_files.BOOT_LOADER, suites.DESCRIPTION, uncompressed_iso.KERNEL, uncompressed_iso.INITRD)
        files: dict[str, bytes | Path] = {name: boot_files._read_required(opened, name) for name in names}
    iso_writer.write({**files, "/b2d/root.squashfs": squashfs}, "b2d-v1", 0, path)
    return path


def listed(path: Path) -> list[str]:
    completed = subprocess.run(["unsquashfs", "-lln", "-d", "", str(path)], capture_output=True, check=True)
    return sorted(completed.stdout.decode().splitlines())


@pytest.mark.parametrize("packer", PACKERS)
def test_commands_in_names_and_links_are_not_run(tree: Path, tmp_path: Path, place: Path, packer: str) -> None:
    source = packed(tree, tmp_path / "packed", packer)
    assert uncompressed_iso.write_rootfs(source, Extent(0, source.stat().st_size), tmp_path / "stored")
    assert not place.exists()
    assert listed(tmp_path / "stored") == listed(source)


@pytest.mark.parametrize("options", [("-no-fragments",), ("-always-use-fragments",), ("-no-exports",), ("-b", "4096")])
def test_any_squashfs_layout_is_converted_correctly(tree: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    for number in range(300):
        (tree / f"usr/{number:0200}").write_bytes(os.urandom(number * 37))
    with (tree / "hole").open("wb") as file:
        file.truncate(3 << 20)
    source = packed(tree, tmp_path / "packed", "zstd", *options)
    assert uncompressed_iso.write_rootfs(source, Extent(0, source.stat().st_size), tmp_path / "stored")
    for name in ("packed", "stored"):
        subprocess.run(["unsquashfs", "-q", "-n", "-d", str(tmp_path / f"{name}.d"), str(tmp_path / name)], check=True)
    subprocess.run(["diff", "-r", "--no-dereference", tmp_path / "packed.d/usr", tmp_path / "stored.d/usr"], check=True)
    assert (tmp_path / "stored.d/hole").stat().st_size == 3 << 20


@pytest.mark.parametrize("way", ["download", "image", "verify", "B2D_IMAGE"])
def test_adding_an_image_runs_nothing_from_it(tree: Path, tmp_path: Path, place: Path, iso: Path, way: str) -> None:
    path = an_iso(packed(tree, tmp_path / "packed"), tmp_path / "evil.iso", iso)
    prompt = Prompt(tmp_path)
    if way == "verify":
        images = ImageStore(Home(tmp_path / ".b2d"))
        image = images.add_copy(path, "debian")
        assert image.stored is not None
        image.stored.write_bytes(b"damaged")
        images.verify(image)
    elif way == "download":
        assert prompt.b2d("download", str(path)).code == 0
    elif way == "image":
        prompt.b2d("init", "--image", str(path))
    else:
        prompt.b2d("init", B2D_IMAGE=str(path))
    assert len(list((tmp_path / ".b2d/images").glob("*.stored.iso"))) == 1
    assert not place.exists()


def test_no_other_program_reads_the_root_of_an_image() -> None:
    assert not [path for path in (ROOT / "b2d").rglob("*.py") if "unsquashfs" in path.read_text()]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("small")
    root = folder / "tree"
    (root / "folder/inside").mkdir(parents=True)
    for number in range(60):
        (root / f"folder/{number}").write_bytes(bytes([number]) * (number * 300))
    (root / "link").symlink_to("folder")
    return packed(root, folder / "packed", "gzip", "-b", "4096").read_bytes()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), max_size=6),
    cut=st.integers(0, 3),
)
def test_a_damaged_squashfs_is_only_an_error(
    small: bytes, tmp_path: Path, changes: list[tuple[int, bytes]], cut: int
) -> None:
    content = bytearray(small)
    for place, new in changes:
        begin = place % len(content)
        content[begin : begin + len(new)] = new
    source = tmp_path / "damaged"
    source.write_bytes(content[: len(content) - cut * 1000])
    with source.open("rb") as file, (tmp_path / "out").open("w+b") as out:
        try:
            write_uncompressed(file, 0, len(content), out)
        except SquashfsError:
            return
    assert (tmp_path / "out").stat().st_size < 50 << 20
