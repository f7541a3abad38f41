"""A guest that shares the target folder of a copy puts links into it: nothing is written through one."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from b2d.errors import B2dError
from b2d.guest.transfer import tar_extract
from b2d.guest.transfer.tar_extract import Unpacker, place_file
from b2d.guest.transfer.tar_writer import ForeignEntry, Packer, list_entries, pack
from b2d.host import dir_fds as host_opened

pytestmark = pytest.mark.needs("posix")  # Windows has no descriptors of folders


def archive(*names: str, links: tuple[str, ...] = ()) -> io.BytesIO:
    """Return an archive; folders end in a slash, each file holds its name, `links` are hard links to the first file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.mode, entry.mtime = 0o777, 1
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = len(name)
                tar.addfile(entry, io.BytesIO(name.encode()))
        for name in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.LNKTYPE, names[-1]
            tar.addfile(entry)
    content.seek(0)
    return content


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """Create a folder that is not shared."""
    folder = tmp_path / "me" / ".ssh"
    folder.mkdir(parents=True, mode=0o700)
    return folder


def take(root: Path, content: io.BytesIO, meanwhile: Callable[[int], None]) -> None:
    with tarfile.open(fileobj=content, mode="r|", tarinfo=ForeignEntry) as tar:
        Unpacker(root, "it", meanwhile, print).unpack(tar)


@pytest.mark.parametrize("place", ["it/sub", "it"])
@pytest.mark.parametrize("links", [(), ("it/sub/linked",)])
def test_a_folder_replaced_by_a_link_during_extraction_is_not_followed(
    tmp_path: Path, ssh: Path, place: str, links: tuple[str, ...]
) -> None:
    share = tmp_path / "share" / ".b2d-x"
    share.mkdir(parents=True)
    before = ssh.stat()

    def exchange(_: int) -> None:
        if not (share / place).is_symlink():
            (share / place).rename(tmp_path / "share" / "taken")
            (share / place).symlink_to(ssh if place == "it/sub" else ssh.parent)

    names = ["it/", "it/sub/", "it/other", *([] if links else ["it/sub/authorized_keys2"])]
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        take(share / "it", archive(*names, links=links), exchange)
    assert list(ssh.iterdir()) == []
    assert (ssh.stat().st_mode, ssh.stat().st_mtime) == (before.st_mode, before.st_mtime)


def test_a_link_that_replaces_the_unfinished_folder_is_not_followed(tmp_path: Path, ssh: Path) -> None:
    share = tmp_path / "share" / ".b2d-x"
    share.mkdir(parents=True)

    def exchange(_: int) -> None:
        if not share.is_symlink():
            share.rename(tmp_path / "share" / "taken")
            share.symlink_to(ssh)

    take(share / "it", archive("it/", "it/first", "it/authorized_keys2"), exchange)
    assert list(ssh.iterdir()) == []
    assert (tmp_path / "share" / "taken" / "it" / "authorized_keys2").is_file()


def test_a_folder_replaced_by_a_link_during_placement_is_not_followed(
    tmp_path: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, final = tmp_path / "share" / ".b2d-x" / "it", tmp_path / "share" / "project"
    for folder in (new / "sub", final / "sub"):
        folder.mkdir(parents=True)
    (new / "sub" / "authorized_keys2").write_text("a guest's")
    really = tar_extract._mode

    def looked(place: tuple[str, int | str]) -> int:
        mode = really(place)
        if place[0] == "sub" and mode and (new / "sub").exists() and len(calls) == 1:
            (final / "sub").rename(tmp_path / "share" / "taken")
            (final / "sub").symlink_to(ssh)
        calls.extend(["sub"] * (place[0] == "sub"))
        return mode

    calls: list[str] = []
    monkeypatch.setattr(tar_extract, "_mode", looked)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        place_file(new, final)
    assert calls == ["sub", "sub"]
    assert list(ssh.iterdir()) == []


@pytest.mark.parametrize("replaced", ["file", "folder", "root"])
def test_a_listed_path_replaced_by_a_link_is_not_sent(tmp_path: Path, ssh: Path, replaced: str) -> None:
    (ssh / "id").write_text("a key")
    project = tmp_path / "share" / "project"
    (project / "sub").mkdir(parents=True)
    (project / "sub" / "id").write_text("dummy")
    listing = list_entries(project, "it", print)
    place = {"file": project / "sub" / "id", "folder": project / "sub", "root": project}[replaced]
    place.rename(tmp_path / "share" / "taken")
    place.symlink_to({"file": ssh / "id", "folder": ssh, "root": ssh.parent}[replaced])
    sent: list[bytes] = []
    with pytest.raises(OSError, match=r"Not a directory|symbolic|not a file"):
        pack(listing, Packer(sent.append, lambda _: None))
    assert b"a key" not in b"".join(sent)


def test_a_folder_replaced_by_a_link_is_not_listed(tmp_path: Path, ssh: Path) -> None:
    (ssh / "id").write_text("a key")
    project = tmp_path / "share" / "project"
    for name in ("a", "b"):
        (project / name).mkdir(parents=True)
    os.mkfifo(project / "a" / "fifo")

    def exchange(_: str) -> None:  # it was reported, which gives the guest its time
        (project / "b").rename(tmp_path / "share" / "taken")
        (project / "b").symlink_to(ssh)

    names = [entry.name for _, entry in list_entries(project, "it", exchange)]
    assert names == ["it", "it/a", "it/b"]


def test_another_file_at_the_typed_path_is_not_sent(tmp_path: Path, ssh: Path) -> None:
    (ssh / "config").write_text("a key")
    project = tmp_path / "share" / "project"
    project.mkdir(parents=True)
    (project / "config").write_text("dummy")
    listing = list_entries(project / "config", "it", print)
    project.rename(tmp_path / "share" / "taken")
    project.symlink_to(ssh)
    sent: list[bytes] = []
    with pytest.raises(B2dError, match="was replaced while it was read"):
        pack(listing, Packer(sent.append, lambda _: None))
    assert sent == []


@pytest.mark.parametrize("mode", [0o700, 0o000])
def test_cleaning_up_follows_no_link(tmp_path: Path, ssh: Path, mode: int) -> None:
    """The guest exchanges it after a failed copy; a folder without permissions is removed all the same."""
    (ssh / "key").write_text("secret")
    (ssh / "key").chmod(0o400)
    ssh.chmod(0o500)
    with pytest.raises(KeyboardInterrupt), tar_extract.remove_unfinished(tmp_path) as folder:
        (folder / "it" / "sub").mkdir(parents=True)
        (folder / "it" / "sub" / "inner").mkdir(mode=mode)
        (folder / "it" / "linked").symlink_to(ssh)
        (folder / "it" / "key").symlink_to(ssh / "key")
        (folder / "it" / "sub").chmod(mode)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["me"]
    assert (ssh.stat().st_mode & 0o777, (ssh / "key").stat().st_mode & 0o777) == (0o500, 0o400)


@pytest.mark.parametrize("moved", [True, False])
def test_a_link_that_replaces_the_folder_during_cleanup_is_not_followed(tmp_path: Path, ssh: Path, moved: bool) -> None:
    """Its own content is removed wherever it is by then; nothing behind the link is touched."""
    (ssh / "sub").mkdir(mode=0o755)
    ssh.chmod(0o755)
    share = tmp_path / "share"
    share.mkdir()
    with pytest.raises(KeyboardInterrupt), tar_extract.remove_unfinished(share) as folder:
        (folder / "it").mkdir()
        folder.rename(share / "gone")
        if moved:
            folder.symlink_to(ssh)
        raise KeyboardInterrupt
    assert [path.stat().st_mode & 0o777 for path in (ssh, ssh / "sub")] == [0o755, 0o755]
    assert list((share / "gone").iterdir()) == []


def test_a_link_that_appears_during_a_change_of_mode_is_not_followed(
    tmp_path: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link appears between the check and the change of its mode."""
    ssh.chmod(0o500)
    parent = tmp_path / "made"
    (parent / "sub").mkdir(parents=True)
    really = host_opened._set_mode_at

    def exchanged(name: str, where: dict[str, int], mode: int) -> None:
        (parent / "sub").rmdir()
        (parent / "sub").symlink_to(ssh)
        really(name, where, mode)

    monkeypatch.setattr(host_opened, "_set_mode_at", exchanged)
    with host_opened.open_folder(str(parent)) as folder, pytest.raises(OSError, match=r"Not a directory|symbolic"):
        host_opened.make_accessible(folder, 0o700)
    assert ssh.stat().st_mode & 0o777 == 0o500


def test_too_many_nested_folders_are_refused(tmp_path: Path) -> None:
    """Every level keeps a descriptor open, and a folder that is too deep could not be removed."""
    names = [f"{'it/' * depth}" for depth in range(1, 259)]
    with pytest.raises(B2dError, match="257 nested folders"):
        take(tmp_path / "it", archive(*names), lambda _: None)
