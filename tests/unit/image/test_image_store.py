"""A stored image is complete, is identified by its hash, and does not change."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zstandard

from b2d.errors import B2dError, ImageError
from b2d.host.files import hash_of
from b2d.image import boot_files
from b2d.image.image_store import ImageStore
from b2d.paths import Home
from tests.support.kernel_images import a_b2d_iso, a_bzimage, an_elf, an_iso, pack


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home with ünicode")


@pytest.fixture
def images(home: Home) -> ImageStore:
    return ImageStore(home)


def a_file(folder: Path, content: bytes, name: str = "some.iso") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def kept_files(home: Home) -> list[str]:
    return sorted(path.name for path in home.images.glob("*")) if home.images.is_dir() else []


def test_an_empty_home_has_no_images(images: ImageStore) -> None:
    assert images.all() == []
    assert images.find("debian") is None


def test_an_image_of_b2d_is_stored_ready_for_a_direct_boot(images: ImageStore, tmp_path: Path) -> None:
    content = a_b2d_iso()
    image = images.add_copy(a_file(tmp_path, content), "debian")

    assert image.sha256 == hashlib.sha256(content).hexdigest()
    assert image.iso.read_bytes() == content
    assert (image.source, image.version, image.size) == ("debian", "26.1.5-6.12.117", len(content))
    assert image.kernel_arguments == "console=tty0 quiet"
    assert image.boots_directly
    assert image.kernel is not None and image.kernel.read_bytes() == an_elf()
    assert image.initrd is not None and image.initrd.read_bytes() == b"070701 a cpio " * 500
    assert image.root is not None
    root = content[image.root.offset : image.root.offset + image.root.size]
    assert root == b"hsqs" + b"26.1.5-6.12.117" * 3000


def test_a_stored_image_is_found_unchanged(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert images.get(image.sha256) == images.find("debian") == image
    assert images.all() == [image]


def test_the_imported_file_stays(images: ImageStore, tmp_path: Path) -> None:
    iso = a_file(tmp_path, a_b2d_iso())
    images.add_copy(iso, str(iso))
    assert iso.read_bytes() == a_b2d_iso()


def test_images_are_private(images: ImageStore, tmp_path: Path, home: Home) -> None:
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert home.images.stat().st_mode & 0o077 == 0
    assert [path.name for path in home.images.iterdir() if path.stat().st_mode & 0o077 and path.suffix] == []


def test_a_kernel_with_unknown_compression_is_stored_unchanged(images: ImageStore, tmp_path: Path) -> None:
    kernel = a_bzimage(pack(an_elf(), "lz4"))
    image = images.add_copy(a_file(tmp_path, a_b2d_iso(kernel=kernel)), "debian")
    assert image.kernel is not None and image.kernel.read_bytes() == kernel


def test_an_uncompressed_initrd_is_stored_unchanged(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso(initrd=b"070701 plain")), "debian")
    assert image.initrd is not None and image.initrd.read_bytes() == b"070701 plain"


def test_an_image_without_a_squashfs_boots_from_the_iso(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso(root=b"\x1f\x8b cpio")), "debian")
    assert image.root is None and not image.boots_directly


@pytest.mark.parametrize(
    ("label", "version"),
    [
        ("b2d-v19.03.12", "19.03.12"),
        ("Boot2Docker-v1.8.0", "1.8.0"),
        ("Boot2Bocker-v1.2.0", "1.2.0"),
        ("Boot2Docker", "Boot2Docker"),
    ],
)
def test_an_iso_of_other_origin_is_stored_and_boots_from_its_cd(
    images: ImageStore, tmp_path: Path, label: str, version: str
) -> None:
    image = images.add_copy(a_file(tmp_path, an_iso(label)), "boot2docker")
    assert image.version == version
    assert image.kernel is None and not image.boots_directly
    images.verify(image)


def test_an_iso_without_a_label_is_named_by_its_hash(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, an_iso("")), "https://host/other.iso")
    assert image.version == image.sha256[:12]


def test_an_iso_that_only_a_boot_loader_can_read_is_stored(images: ImageStore, tmp_path: Path) -> None:
    content = bytearray(an_iso())
    content[16 * 2048 + 156 : 16 * 2048 + 190] = bytes(34)  # the root directory's record
    assert not images.add_copy(a_file(tmp_path, bytes(content)), "boot2docker").boots_directly


def test_data_behind_the_volume_does_no_harm(images: ImageStore, tmp_path: Path) -> None:
    assert images.add_copy(a_file(tmp_path, an_iso(padding=4096)), "boot2docker").version == "1.2.3-6.12.1"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html>log in", "a web page"),
        (b'{"message": "rate limit"}', "a JSON document"),
        (bytes(100_000), "some other file of 100000 bytes"),
        (a_b2d_iso()[:-2048], "truncated"),
        (a_b2d_iso()[: 16 * 2048 + 500], "truncated"),
    ],
)
def test_an_invalid_iso_is_refused_with_its_kind(
    images: ImageStore, home: Home, tmp_path: Path, content: bytes, named: str
) -> None:
    with pytest.raises(ImageError, match=named):
        images.add_copy(a_file(tmp_path, content), "debian")
    assert kept_files(home) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"kernel": a_bzimage(pack(an_elf(), "zstd")[:-8])},
        {"kernel": None},
        {"initrd": zstandard.compress(b"cpio" * 1000)[:-5]},
        {"initrd": None},
        {"root": None},
        {"image": b"{"},
        {"image": b"{}"},
        {"image": b'{"format": 2}'},
        {"image": b"[]"},
    ],
)
def test_a_damaged_image_of_b2d_is_refused_and_not_stored(
    images: ImageStore, home: Home, tmp_path: Path, damage: dict[str, bytes | None]
) -> None:
    with pytest.raises(ImageError):
        images.add_copy(a_file(tmp_path, a_b2d_iso("1", **damage)), "debian")
    assert [name for name in kept_files(home) if not name.startswith(".")] == []
    assert images.all() == []


def test_a_missing_file_is_reported(images: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(B2dError, match=r"missing\.iso.*No such file"):
        images.add_copy(tmp_path / "missing.iso", "debian")


def test_the_newest_image_of_a_source_is_the_last_one_added(images: ImageStore, tmp_path: Path) -> None:
    old = images.add_copy(a_file(tmp_path, a_b2d_iso("1.0-6.12")), "debian")
    new = images.add_copy(a_file(tmp_path, a_b2d_iso("1.1-6.12")), "debian")
    other = images.add_copy(a_file(tmp_path, an_iso("b2d-v19.03.12")), "boot2docker")

    assert images.find("debian") == new
    assert images.find("boot2docker") == other
    assert images.all() == [other, new, old]

    images.add_copy(a_file(tmp_path, a_b2d_iso("1.0-6.12")), "debian")
    assert images.find("debian") == old


def test_images_that_boot_the_same_have_one_system(images: ImageStore, tmp_path: Path) -> None:
    isos = [a_b2d_iso(version, root=b"hsqs") for version in ("1.0-6.12", "1.1-6.12")]
    same = [images.add_copy(a_file(tmp_path, content), "debian") for content in isos]
    assert same[0].sha256 != same[1].sha256
    assert same[0].system == same[1].system == images.get(same[0].sha256).system
    others = [a_b2d_iso(root=b"hsqs another"), a_b2d_iso(initrd=zstandard.compress(b"another")), an_iso()]
    systems = {images.add_copy(a_file(tmp_path, content), "debian").system for content in others}
    assert len(systems | {same[0].system}) == 4


def test_an_image_that_an_older_b2d_stored_has_a_system_of_its_own(
    images: ImageStore, home: Home, tmp_path: Path
) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    record = home.image(image.sha256).facts
    document = json.loads(record.read_text())
    assert document.pop("root_sha256")
    record.write_text(json.dumps(document))
    assert images.get(image.sha256).system == image.sha256


def test_the_same_iso_can_be_the_newest_of_two_sources(images: ImageStore, tmp_path: Path) -> None:
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "/my/own.iso")
    for source in ("debian", "/my/own.iso"):
        newest = images.find(source)
        assert newest is not None and newest.source == source
    assert len(images.all()) == 1


def test_an_image_is_unused_without_a_machine_and_if_no_source_has_it_as_newest(
    images: ImageStore, tmp_path: Path
) -> None:
    first, second, third = (
        images.add_copy(a_file(tmp_path, a_b2d_iso(f"1.{minor}-6.12")), "debian") for minor in range(3)
    )
    assert [image.sha256 for image in images.unused([second.sha256])] == [first.sha256]
    images.add_copy(first.iso, "elsewhere")
    images.add_copy(first.iso, "debian")
    assert {image.sha256 for image in images.unused([])} == {second.sha256, third.sha256}
    images.add_copy(third.iso, "debian")
    assert [image.sha256 for image in images.unused([])] == [second.sha256]  # still the other source's newest


def test_adding_a_stored_image_touches_no_file_in_use(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    parts = [path for path in (image.iso, image.kernel, image.initrd) if path is not None]
    before = [boot_files.stamp(path) for path in parts]
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert [boot_files.stamp(path) for path in parts] == before


def test_adding_an_image_again_leaves_boot_files_of_an_older_b2d_to_saved_machines(
    images: ImageStore, home: Home, tmp_path: Path
) -> None:
    """A new unpacking has another layout, and a state saved with the old bytes would not fit."""
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert image.kernel is not None
    image.kernel.write_bytes(b"as that version unpacked it")
    paths = home.image(image.sha256)
    old = json.loads(paths.facts.read_text())
    old["kernel"] = {"sha256": hash_of(image.kernel), "size": image.kernel.stat().st_size}
    del old["suites"]
    paths.facts.write_text(json.dumps(old))
    again = images.add_copy(a_file(tmp_path, a_b2d_iso()), "elsewhere")
    images.verify(again)
    assert again.kernel is not None
    assert again.kernel.read_bytes() == b"as that version unpacked it"
    assert (again.version, images.find("debian") is not None) == (image.version, True)


def test_a_missing_image_has_a_hint(images: ImageStore) -> None:
    with pytest.raises(B2dError) as failure:
        images.get("ab" * 32)
    assert failure.value.hint == "b2d download"


def test_unreadable_facts_hide_only_their_image(images: ImageStore, home: Home, tmp_path: Path) -> None:
    whole = images.add_copy(a_file(tmp_path, a_b2d_iso("1")), "debian")
    for number, content in enumerate([b"", b"{", b"[]", b'{"format": 99}', b'{"format": 1}']):
        (home.images / f"{number:064d}.json").write_bytes(content)
    assert images.all() == [whole]


def test_an_intact_image_is_verified(images: ImageStore, home: Home, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    images.verify(image)
    home.image(image.sha256).checked.unlink()
    images.verify(image)
    assert home.image(image.sha256).checked.exists()


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("checked_before", [True, False])
def test_a_damaged_iso_is_found_before_it_boots(
    images: ImageStore, home: Home, tmp_path: Path, checked_before: bool
) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    if not checked_before:
        home.image(image.sha256).checked.unlink()
    spoil(image.iso)
    with pytest.raises(ImageError) as failure:
        images.verify(image)
    assert failure.value.hint == "b2d download"


def test_adding_an_iso_again_repairs_a_damaged_one(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    spoil(image.iso)
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    images.verify(image)


def test_a_missing_iso_is_found(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    image.iso.unlink()
    with pytest.raises(ImageError):
        images.verify(image)


def test_a_damaged_or_missing_kernel_or_initrd_is_unpacked_again(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    images.verify(image)
    assert image.kernel is not None and image.initrd is not None
    spoil(image.kernel)
    image.initrd.unlink()
    images.verify(image)
    assert image.kernel.read_bytes() == an_elf()
    assert image.initrd.read_bytes() == b"070701 a cpio " * 500


def test_an_unchanged_file_is_not_hashed_again(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    before = image.iso.stat()
    spoil(image.iso)
    os.utime(image.iso, ns=(before.st_atime_ns, before.st_mtime_ns))
    images.verify(image)  # passes only because it is not read
    os.utime(image.iso, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(ImageError):
        images.verify(image)


def test_an_invalid_record_of_the_last_check_is_ignored(images: ImageStore, home: Home, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    for content in (b"", b"[]", b'{"x": 1}', b"\xff"):
        home.image(image.sha256).checked.write_bytes(content)
        images.verify(image)


def test_a_removed_image_leaves_no_files(images: ImageStore, home: Home, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    images.verify(image)
    images.remove(image.sha256)
    images.remove(image.sha256)
    assert images.all() == []
    assert [name for name in kept_files(home) if not name.startswith(".")] == []


def test_foreign_files_in_the_folder_of_images_stay(images: ImageStore, home: Home, tmp_path: Path) -> None:
    """The folder may be a link to one with the owner's other files."""
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    theirs = [home.images / name for name in (".my-notes", ".DS_Store", f".{'1' * 64}", ".x.unfinished.bak")]
    for path in theirs:
        path.write_bytes(b"theirs")
        os.utime(path, (0, 0))
    (home.images / ".git").mkdir()
    os.utime(home.images / ".git", (0, 0))
    images.add_copy(a_file(tmp_path, a_b2d_iso("26.1.6")), "debian")
    assert all(path.exists() for path in (*theirs, home.images / ".git"))


def test_an_unfinished_file_of_a_dead_process_is_removed(images: ImageStore, home: Home, tmp_path: Path) -> None:
    home.images.mkdir(parents=True)
    (home.images / ".4711.unfinished").write_bytes(b"half")
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert not list(home.images.glob(".*.unfinished"))


def test_concurrent_additions_store_one_image_with_all_sources(images: ImageStore, tmp_path: Path) -> None:
    iso = a_file(tmp_path, a_b2d_iso())
    threads = [threading.Thread(target=images.add_copy, args=(iso, f"source {i}")) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images.all()) == 1
    assert all(images.find(f"source {i}") for i in range(4))


def test_facts_are_plain_json_with_a_format_number(images: ImageStore, home: Home, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    document = json.loads(home.image(image.sha256).facts.read_text())
    assert document["format"] == 2
    assert document["version"] == image.version


def test_finding_an_image_imports_no_slow_library() -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from b2d.image.image_store import ImageStore; from b2d.paths import Home;"
        "ImageStore(Home(Path('/nowhere'))).find('debian');"
        "print(sorted({'pycdlib', 'zstandard', 'filelock', 'ssl', 'logging'} & set(sys.modules)))"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"


def test_leftovers_of_a_killed_process_are_removed_once_they_are_old(
    images: ImageStore, home: Home, tmp_path: Path
) -> None:
    iso = a_file(tmp_path, a_b2d_iso())
    image = images.add_copy(iso, "debian")
    old, fresh, unfinished = (
        home.images / name
        for name in (f".{'1' * 64}.vmlinux.abcd_123", f".{'2' * 64}.initrd.abcd_123", ".3.unfinished")
    )
    for path in (old, fresh, unfinished):
        path.touch()
    os.utime(old, (1, 1))
    images.add_copy(iso, "debian")
    assert (old.exists(), fresh.exists(), unfinished.exists()) == (False, True, False)
    images.verify(image)


def test_damaged_boot_files_of_another_version_are_recreated(home: Home, tmp_path: Path) -> None:
    """The layout differs, so the new files have other hashes than the old ones."""
    images = ImageStore(home)
    image = images.add_copy(a_file(tmp_path, a_b2d_iso(kernel=a_bzimage(an_elf()))), "debian")
    paths = home.image(image.sha256)
    old = json.loads(paths.facts.read_text())
    old["kernel"] = {"sha256": "0" * 64, "size": 1}
    paths.facts.write_text(json.dumps(old))
    assert image.kernel is not None
    image.kernel.write_bytes(b"what that version unpacked, but damaged")
    images.verify(images.get(image.sha256))
    assert (
        json.loads(paths.facts.read_text())["kernel"]["sha256"] == hashlib.sha256(image.kernel.read_bytes()).hexdigest()
    )
