"""An image built into a folder that a guest shares: the guest's links cannot redirect the written files."""

from pathlib import Path

import pytest

from b2d.errors import B2dError
from b2d.image.acquire import ImageAcquirer
from b2d.image.build import builder
from b2d.image.build.builder import BuildRequest, BuiltImage, manifest_path
from b2d.paths import Home
from tests.support.fakes import FakeReporter

ISO, MANIFEST = b"what was built" * 1000, b"{}"


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


def building(share: Path, monkeypatch: pytest.MonkeyPatch, guest_does: str = "") -> list[list[str]]:
    """Replace the build by an instant one and return the names in the folder during each build."""
    visible: list[list[str]] = []

    def built(request: BuildRequest, _: object) -> BuiltImage:
        visible.append([path.name for path in share.iterdir()])
        request.output.write_bytes(ISO)
        manifest_path(request.output).write_bytes(MANIFEST)
        for name in ("b2d.iso", "b2d.iso.manifest.json") if guest_does else ():
            (share / name).symlink_to(guest_does)
        return BuiltImage(request.output, "0" * 64, "1.2.3")

    monkeypatch.setattr(builder, "build_image", built)
    return visible


def supply(folder: Path) -> ImageAcquirer:
    return ImageAcquirer(Home(folder / "home"), "", FakeReporter())


def test_only_complete_files_appear_in_the_shared_folder(
    tmp_path: Path, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible = building(share, monkeypatch)
    assert supply(tmp_path).build_to("amd64", share / "deeper" / "b2d.iso") == "1.2.3"
    assert visible == [["deeper"]]
    files = {path.name: (path.read_bytes(), path.stat().st_mode & 0o777) for path in (share / "deeper").iterdir()}
    assert files == {"b2d.iso": (ISO, 0o644), "b2d.iso.manifest.json": (MANIFEST, 0o644)}
    assert list((tmp_path / "home" / "cache").iterdir()) == []


def test_a_symlink_at_the_output_path_is_replaced_and_not_followed(
    tmp_path: Path, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    precious.chmod(0o600)
    building(share, monkeypatch, guest_does=str(precious))
    supply(tmp_path).build_to("amd64", share / "b2d.iso")
    assert (precious.read_bytes(), precious.stat().st_mode & 0o777) == (b"precious", 0o600)
    assert (share / "b2d.iso").read_bytes() == ISO
    assert not (share / "b2d.iso").is_symlink()


def test_nothing_is_built_for_an_output_that_cannot_be_written(
    tmp_path: Path, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible = building(share, monkeypatch)
    (share / "file").write_bytes(b"")
    with pytest.raises(B2dError, match="file"):
        supply(tmp_path).build_to("amd64", share / "file" / "b2d.iso")
    assert visible == []
