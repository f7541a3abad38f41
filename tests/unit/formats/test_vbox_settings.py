"""VirtualBox's settings files of all versions are read; other files are rejected."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.errors import B2dError
from b2d.formats import vbox_settings
from tests.support.foreign_machines import CHILD_UUID, settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "box.vbox"


@pytest.mark.parametrize("seven", [False, True])
def test_name_size_and_media_are_read(file: Path, seven: bool) -> None:
    file.write_text(settings("box", "box.vmdk", "/isos/b2d.iso", seven=seven))
    parsed = vbox_settings.read(file)
    assert (parsed.name, parsed.memory_mib, parsed.cpus) == ("box", 1024, 2)
    assert parsed.disks == (file.parent / "box.vmdk",)
    assert parsed.isos == (Path("/isos/b2d.iso"),)
    assert not parsed.saved and not parsed.has_snapshots


def test_a_saved_state_and_snapshots_are_recognised(file: Path) -> None:
    file.write_text(settings("box", "box.vmdk", layers=True, saved=True))
    parsed = vbox_settings.read(file)
    assert parsed.saved and parsed.has_snapshots
    assert parsed.disks == (file.parent / "Snapshots" / f"{CHILD_UUID}.vmdk",)


def test_a_disk_that_is_only_in_the_global_registry_is_ignored(file: Path) -> None:
    text = settings("box", "box.vmdk")
    file.write_text(text[: text.index("<HardDisks>")] + text[text.index("<DVDImages>") :])
    assert vbox_settings.read(file).disks == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a settings file of VirtualBox"),
        (b"<a/>", "not a settings file of a VirtualBox machine"),
        (b"<VirtualBox><Machine/></VirtualBox>", "not a settings file of a VirtualBox machine"),
        (settings("box", "x").replace('RAMSize="1024"', 'RAMSize="much"').encode(), "has an invalid value"),
    ],
)
def test_a_file_that_is_not_a_settings_file_is_reported(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(B2dError, match=message):
        vbox_settings.read(file)


def test_a_missing_file_is_reported(file: Path) -> None:
    with pytest.raises(B2dError, match="No such file"):
        vbox_settings.read(file)


@given(st.binary())
def test_any_invalid_content_is_a_b2d_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    odd = tmp_path_factory.getbasetemp() / "odd.vbox"
    odd.write_bytes(content)
    with pytest.raises(B2dError):
        vbox_settings.read(odd)
