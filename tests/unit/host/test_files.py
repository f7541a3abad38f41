"""Files are written atomically, and are private whatever the umask."""

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.errors import B2dError
from b2d.host.files import os_errors_as_b2d_errors, private_folder, read_text_tail, write_atomic


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("wanted", [0o600, 0o644])
def test_a_file_is_created_with_its_mode(tmp_path: Path, wanted: int) -> None:
    write_atomic(tmp_path / "file", b"content", wanted)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert mode(tmp_path / "file") == wanted


def test_a_symlink_that_appears_during_a_write_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that shares the folder creates it during the write: the target's mode stays."""
    share, key = tmp_path / "share", tmp_path / "key"
    share.mkdir()
    key.write_bytes(b"secret")
    key.chmod(0o600)
    really = os.fsync

    def exchanged(descriptor: int) -> None:
        really(descriptor)
        (new,) = share.iterdir()
        new.unlink()
        new.symlink_to(key)

    monkeypatch.setattr(os, "fsync", exchanged)
    write_atomic(share / "screen.png", b"content", 0o644)
    assert (key.read_bytes(), mode(key)) == (b"secret", 0o600)


def test_a_stream_is_written_completely(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", io.BytesIO(b"content" * 100_000), 0o640)
    assert ((tmp_path / "file").read_bytes(), mode(tmp_path / "file")) == (b"content" * 100_000, 0o640)


@pytest.mark.usefixtures("umask")
def test_missing_parents_of_a_private_folder_are_private_too(tmp_path: Path) -> None:
    deep = tmp_path / "home" / "machines" / "box"
    assert private_folder(deep) == deep
    assert [mode(folder) for folder in (deep, deep.parent, deep.parent.parent)] == [0o700] * 3


def test_an_existing_folder_is_unchanged(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_folder(tmp_path)
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("name", ["a file", "a file above"])
def test_a_file_in_the_path_of_a_folder_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "box").write_text("in the way")
    wanted = tmp_path / "box" / "deeper" if name == "a file above" else tmp_path / "box"
    with pytest.raises(B2dError, match=str(tmp_path / "box")), os_errors_as_b2d_errors(tmp_path):
        private_folder(wanted)


def test_an_older_file_is_replaced_without_leftovers(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"something longer than that")
    (tmp_path / "file").chmod(0o644)
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert mode(tmp_path / "file") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_reader_of_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old" * 10)
    with (tmp_path / "file").open("rb") as reader:
        reader.read(3)
        write_atomic(tmp_path / "file", b"new")
        assert reader.read() == b"old" * 9


def test_a_failed_write_leaves_the_old_file_without_leftovers(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").write_text("kept")
    with pytest.raises(OSError):
        write_atomic(tmp_path / "taken", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken" / "inside").read_text() == "kept"


def test_undecodable_bytes_of_a_log_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"gr\xc3\xbc\xff\r\n")
    assert read_text_tail(tmp_path / "log") == "grü\N{REPLACEMENT CHARACTER}\r\n"
    assert read_text_tail(tmp_path / "nothing") == read_text_tail(tmp_path) == ""


def test_an_error_names_the_target_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(B2dError) as caught, os_errors_as_b2d_errors(tmp_path):
        write_atomic(tmp_path / "taken", b"new")
    assert caught.value.message == f"{tmp_path / 'taken'}: Is a directory"


def test_an_os_error_without_a_path_is_reported_with_the_expected_path(tmp_path: Path) -> None:
    with pytest.raises(B2dError) as caught, os_errors_as_b2d_errors(tmp_path):
        raise OSError(28, "No space left on device")
    assert caught.value.message == f"{tmp_path}: No space left on device"
