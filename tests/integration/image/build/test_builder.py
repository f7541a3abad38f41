"""The build of a small ISO from an archive of small packages."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pycdlib import PyCdlib

from b2d.errors import B2dError, ConfigError, DownloadError
from b2d.image.build.builder import BuildRequest, BuiltImage, build_image, manifest_path, plan_build
from b2d.image.image_store import ImageStore
from b2d.paths import Home
from tests.support.debian_mirror import LocalDebian
from tests.support.fakes import FakeReporter
from tests.support.small_image import RECIPE, a_recipe, packages, publish


@pytest.fixture
def request_(debian: LocalDebian, tmp_path: Path) -> BuildRequest:
    """Return the request for a small image from a valid archive."""
    publish(debian)
    folder = a_recipe(tmp_path / "iso", debian)
    return BuildRequest("amd64", debian.url, tmp_path / "cache", tmp_path / "out" / "small.iso", folder)


def with_recipe(request: BuildRequest, old: str, new: str) -> BuildRequest:
    assert old in RECIPE
    (request.recipe / "image.toml").write_text(RECIPE.replace(old, new))
    return request


def without_mksquashfs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))


def opened(path: Path) -> PyCdlib:
    iso = PyCdlib()
    iso.open(str(path))
    return iso


def files(iso: PyCdlib) -> set[str]:
    return {f"{folder.rstrip('/')}/{name}" for folder, _, names in iso.walk(rr_path="/") for name in names}


def manifest(built: BuiltImage) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(manifest_path(built.path).read_text())
    return read


def test_a_bootable_iso_is_built_and_can_be_stored(request_: BuildRequest, tmp_path: Path) -> None:
    built = build_image(request_, FakeReporter())
    assert built.version == "26.1.5-6.12.1"
    assert built.sha256 == hashlib.sha256(built.path.read_bytes()).hexdigest()
    iso = opened(built.path)
    assert files(iso) == {
        "/b2d/image.json",
        "/b2d/manifest.json",
        "/b2d/root.squashfs",
        "/boot/initrd",
        "/boot/vmlinuz",
        "/isolinux/boot.cat",
        "/isolinux/isolinux.bin",
        "/isolinux/isolinux.cfg",
        "/isolinux/ldlinux.c32",
    }
    assert iso.eltorito_boot_catalog is not None
    loader = iso.get_record(rr_path="/isolinux/isolinux.bin").extent_location()
    assert iso.eltorito_boot_catalog.initial_entry.get_rba() == loader
    assert built.path.read_bytes()[loader * 2048 + 12 : loader * 2048 + 16] == loader.to_bytes(4, "little")
    iso.close()

    stored = ImageStore(Home(tmp_path / "home")).add_copy(built.path, "debian")
    assert (stored.version, stored.kernel_arguments, stored.boots_directly) == (
        built.version,
        "console=ttyS0 quiet",
        True,
    )


def test_the_same_packages_produce_the_same_bytes(request_: BuildRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_image(request_, FakeReporter())
    content = first.path.read_bytes()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setattr("time.time", lambda: 1_900_000_000.0)
    time.sleep(1.1)  # mksquashfs takes its own timestamps, in seconds
    assert build_image(request_, FakeReporter()).sha256 == first.sha256
    assert first.path.read_bytes() == content


def test_the_manifest_names_every_package_with_version_hash_and_licence(request_: BuildRequest) -> None:
    built = build_image(request_, FakeReporter())
    listed = {package["name"]: package for package in manifest(built)["packages"]}
    wanted = [package for package in packages() if package.name != "linux-image-amd64"]
    assert {name: (entry["version"], entry["sha256"]) for name, entry in listed.items()} == {
        package.name: (package.version, hashlib.sha256(package.content).hexdigest()) for package in wanted
    }
    assert listed["docker.io"]["licence"] == ["Apache-2.0"]
    assert listed["isolinux"]["licence"] == ["GPL-2"]
    assert listed["busybox-static"]["licence"] == ["see its source package"]


def test_without_mksquashfs_the_root_is_a_cpio_and_that_is_reported(
    request_: BuildRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_mksquashfs(monkeypatch, tmp_path / "bin")
    reporter = FakeReporter()
    built = build_image(request_, reporter)
    assert "/b2d/root.cpio.gz" in files(opened(built.path))
    (warning,) = reporter.texts("warn")
    assert "mksquashfs" in warning and "b2d doctor --fix" in warning
    monkeypatch.setattr("time.time", lambda: 1_900_000_000.0)
    again = build_image(request_, FakeReporter())
    assert again.sha256 == built.sha256


def test_a_downloaded_package_is_not_downloaded_again(request_: BuildRequest, debian: LocalDebian) -> None:
    build_image(request_, FakeReporter())
    debian.requests.clear()
    reporter = FakeReporter()
    build_image(request_, reporter)
    assert {path.rpartition("/")[2] for path in debian.paths()} == {"InRelease"}
    assert reporter.texts("progress") == []


def test_packages_unused_for_a_month_are_removed(request_: BuildRequest) -> None:
    build_image(request_, FakeReporter())
    folder = request_.cache / "packages"
    in_use = {path.name for path in folder.iterdir()}
    for number, name in enumerate(["ab" * 32, f"{'cd' * 32}.part", "ef" * 32, *in_use]):
        (folder / name).open("a").close()
        before = time.time() - (29 if number == 2 else 31) * 86400
        os.utime(folder / name, (before, before))
    build_image(request_, FakeReporter())
    assert {path.name for path in folder.iterdir()} == {*in_use, "ef" * 32}


@pytest.mark.parametrize("at", ["InRelease", "isolinux"])
def test_a_failed_build_leaves_the_previous_iso_unchanged(request_: BuildRequest, debian: LocalDebian, at: str) -> None:
    build_image(request_, FakeReporter())
    before = {path.name: path.read_bytes() for path in request_.output.parent.iterdir()}
    debian.publish("trixie", *packages("27.0"))
    for path in [path for path in debian.files if at in path]:
        del debian.files[path]
    for package in (request_.cache / "packages").iterdir():
        package.unlink()
    with pytest.raises(DownloadError):
        build_image(request_, FakeReporter())
    assert {path.name: path.read_bytes() for path in request_.output.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"usr/bin/busybox"', '"usr/bin/ash"', "usr/bin/ash"),
        ('"etc/shadow" = ', '"etc/gshadow" = ', "etc/gshadow"),
        ('"overlay"', '"overlook"', "no module overlook"),
        ('"docker.io"]', '"docker.io", "moby"]', "no package moby"),
    ],
)
def test_a_recipe_that_does_not_match_the_packages_is_reported_with_the_missing_item(
    request_: BuildRequest, old: str, new: str, named: str
) -> None:
    with pytest.raises(B2dError, match=named):
        build_image(with_recipe(request_, old, new), FakeReporter())
    assert not request_.output.exists()


def test_the_fingerprint_of_a_build_depends_on_its_inputs_only(request_: BuildRequest, debian: LocalDebian) -> None:
    before = plan_build(request_, FakeReporter()).fingerprint
    assert plan_build(request_, FakeReporter()).fingerprint == before
    init = request_.recipe / "stage1" / "init"
    original = init.read_bytes()
    init.write_bytes(original + b"\n")
    assert plan_build(request_, FakeReporter()).fingerprint != before
    init.write_bytes(original)
    assert plan_build(request_, FakeReporter()).fingerprint == before
    debian.publish("trixie", *packages("26.1.6+dfsg1-1"))
    assert plan_build(request_, FakeReporter()).fingerprint != before


def test_an_unsupported_architecture_is_refused_before_any_request(request_: BuildRequest, debian: LocalDebian) -> None:
    unsupported = BuildRequest("m68k", request_.mirror, request_.cache, request_.output, request_.recipe)
    with pytest.raises(ConfigError, match="m68k"):
        build_image(unsupported, FakeReporter())
    assert debian.requests == []


def test_an_output_that_cannot_be_written_is_reported(request_: BuildRequest) -> None:
    request_.output.mkdir(parents=True)
    with pytest.raises(B2dError, match=r"small\.iso"):
        build_image(request_, FakeReporter())
