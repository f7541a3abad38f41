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


def test_a_home_without_images_has_none(images: ImageStore) -> None:
    assert images.all() == []
    assert images.find("debian") is None


def test_an_image_of_b2ds_own_is_kept_ready_for_a_direct_boot(images: ImageStore, tmp_path: Path) -> None:
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


def test_what_is_kept_is_found_again_as_it_was(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert images.get(image.sha256) == images.find("debian") == image
    assert images.all() == [image]


def test_the_file_that_was_taken_in_stays_where_it_is(images: ImageStore, tmp_path: Path) -> None:
    iso = a_file(tmp_path, a_b2d_iso())
    images.add_copy(iso, str(iso))
    assert iso.read_bytes() == a_b2d_iso()


def test_images_are_closed_to_others(images: ImageStore, tmp_path: Path, home: Home) -> None:
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert home.images.stat().st_mode & 0o077 == 0
    assert [path.name for path in home.images.iterdir() if path.stat().st_mode & 0o077 and path.suffix] == []


def test_a_kernel_that_must_unpack_itself_is_kept_as_it_is(images: ImageStore, tmp_path: Path) -> None:
    kernel = a_bzimage(pack(an_elf(), "lz4"))
    image = images.add_copy(a_file(tmp_path, a_b2d_iso(kernel=kernel)), "debian")
    assert image.kernel is not None and image.kernel.read_bytes() == kernel


def test_an_initrd_that_is_not_packed_is_kept_as_it_is(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso(initrd=b"070701 plain")), "debian")
    assert image.initrd is not None and image.initrd.read_bytes() == b"070701 plain"


def test_a_root_that_is_no_squashfs_is_booted_from_the_iso(images: ImageStore, tmp_path: Path) -> None:
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
def test_an_iso_of_other_origin_is_kept_and_boots_by_itself(
    images: ImageStore, tmp_path: Path, label: str, version: str
) -> None:
    image = images.add_copy(a_file(tmp_path, an_iso(label)), "boot2docker")
    assert image.version == version
    assert image.kernel is None and not image.boots_directly
    images.verify(image)


def test_an_iso_without_a_label_is_named_by_its_hash(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, an_iso("")), "https://host/other.iso")
    assert image.version == image.sha256[:12]


def test_an_iso_that_only_a_boot_loader_can_read_is_kept(images: ImageStore, tmp_path: Path) -> None:
    content = bytearray(an_iso())
    content[16 * 2048 + 156 : 16 * 2048 + 190] = bytes(34)  # the root directory's record
    assert not images.add_copy(a_file(tmp_path, bytes(content)), "boot2docker").boots_directly


def test_bytes_behind_the_volume_do_no_harm(images: ImageStore, tmp_path: Path) -> None:
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
def test_what_is_no_whole_iso_is_refused_by_what_it_is(
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
def test_an_image_of_b2ds_own_that_is_damaged_is_refused_and_nothing_is_kept(
    images: ImageStore, home: Home, tmp_path: Path, damage: dict[str, bytes | None]
) -> None:
    with pytest.raises(ImageError):
        images.add_copy(a_file(tmp_path, a_b2d_iso("1", **damage)), "debian")
    assert [name for name in kept_files(home) if not name.startswith(".")] == []
    assert images.all() == []


def test_a_file_that_is_not_there_is_named(images: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(B2dError, match=r"missing\.iso.*No such file"):
        images.add_copy(tmp_path / "missing.iso", "debian")


def test_the_newest_of_a_source_is_what_was_taken_in_last(images: ImageStore, tmp_path: Path) -> None:
    old = images.add_copy(a_file(tmp_path, a_b2d_iso("1.0-6.12")), "debian")
    new = images.add_copy(a_file(tmp_path, a_b2d_iso("1.1-6.12")), "debian")
    other = images.add_copy(a_file(tmp_path, an_iso("b2d-v19.03.12")), "boot2docker")

    assert images.find("debian") == new
    assert images.find("boot2docker") == other
    assert images.all() == [other, new, old]

    images.add_copy(a_file(tmp_path, a_b2d_iso("1.0-6.12")), "debian")
    assert images.find("debian") == old


def test_the_same_iso_can_be_the_newest_of_two_sources(images: ImageStore, tmp_path: Path) -> None:
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "/my/own.iso")
    for source in ("debian", "/my/own.iso"):
        newest = images.find(source)
        assert newest is not None and newest.source == source
    assert len(images.all()) == 1


def test_an_image_is_spare_when_no_machine_has_it_and_it_is_the_newest_of_nothing(
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


def test_taking_in_what_is_kept_touches_no_file_that_a_machine_may_have_open(
    images: ImageStore, tmp_path: Path
) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    parts = [path for path in (image.iso, image.kernel, image.initrd) if path is not None]
    before = [boot_files.stamp(path) for path in parts]
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert [boot_files.stamp(path) for path in parts] == before


def test_taking_in_what_an_older_b2d_unpacked_leaves_it_to_the_machines_that_it_saved(
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


def test_an_image_that_is_not_kept_says_how_to_get_one(images: ImageStore) -> None:
    with pytest.raises(B2dError) as failure:
        images.get("ab" * 32)
    assert failure.value.hint == "b2d download"


def test_facts_that_cannot_be_read_hide_their_image_alone(images: ImageStore, home: Home, tmp_path: Path) -> None:
    whole = images.add_copy(a_file(tmp_path, a_b2d_iso("1")), "debian")
    for number, content in enumerate([b"", b"{", b"[]", b'{"format": 99}', b'{"format": 1}']):
        (home.images / f"{number:064d}.json").write_bytes(content)
    assert images.all() == [whole]


def test_a_sound_image_passes(images: ImageStore, home: Home, tmp_path: Path) -> None:
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
def test_an_iso_with_a_wrong_bit_is_found_out_before_it_boots(
    images: ImageStore, home: Home, tmp_path: Path, checked_before: bool
) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    if not checked_before:
        home.image(image.sha256).checked.unlink()
    spoil(image.iso)
    with pytest.raises(ImageError) as failure:
        images.verify(image)
    assert failure.value.hint == "b2d download"


def test_taking_in_the_same_iso_again_heals_a_damaged_one(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    spoil(image.iso)
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    images.verify(image)


def test_an_iso_that_is_gone_is_found_out(images: ImageStore, tmp_path: Path) -> None:
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


def test_a_file_that_looks_as_it_did_is_not_hashed_again(images: ImageStore, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    before = image.iso.stat()
    spoil(image.iso)
    os.utime(image.iso, ns=(before.st_atime_ns, before.st_mtime_ns))
    images.verify(image)  # passes only because it is not read
    os.utime(image.iso, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(ImageError):
        images.verify(image)


def test_what_was_remembered_of_the_last_check_may_be_anything(images: ImageStore, home: Home, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    for content in (b"", b"[]", b'{"x": 1}', b"\xff"):
        home.image(image.sha256).checked.write_bytes(content)
        images.verify(image)


def test_a_removed_image_leaves_nothing_behind(images: ImageStore, home: Home, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    images.verify(image)
    images.remove(image.sha256)
    images.remove(image.sha256)
    assert images.all() == []
    assert [name for name in kept_files(home) if not name.startswith(".")] == []


def test_what_is_not_b2d_s_among_the_images_stays(images: ImageStore, home: Home, tmp_path: Path) -> None:
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


def test_what_a_b2d_that_died_left_unfinished_is_swept(images: ImageStore, home: Home, tmp_path: Path) -> None:
    home.images.mkdir(parents=True)
    (home.images / ".4711.unfinished").write_bytes(b"half")
    images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    assert not list(home.images.glob(".*.unfinished"))


def test_two_at_once_keep_one_image_and_both_sources(images: ImageStore, tmp_path: Path) -> None:
    iso = a_file(tmp_path, a_b2d_iso())
    threads = [threading.Thread(target=images.add_copy, args=(iso, f"source {i}")) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images.all()) == 1
    assert all(images.find(f"source {i}") for i in range(4))


def test_what_is_kept_is_plain_json_that_names_its_format(images: ImageStore, home: Home, tmp_path: Path) -> None:
    image = images.add_copy(a_file(tmp_path, a_b2d_iso()), "debian")
    document = json.loads(home.image(image.sha256).facts.read_text())
    assert document["format"] == 2
    assert document["version"] == image.version


def test_finding_an_image_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from b2d.image.image_store import ImageStore; from b2d.paths import Home;"
        "ImageStore(Home(Path('/nowhere'))).find('debian');"
        "print(sorted({'pycdlib', 'zstandard', 'filelock', 'ssl', 'logging'} & set(sys.modules)))"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"


def test_what_a_killed_b2d_left_goes_with_the_next_image_once_nobody_can_be_writing_it(
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


def test_what_another_version_of_b2d_unpacked_is_made_anew_when_it_is_damaged(home: Home, tmp_path: Path) -> None:
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
