"""A package is unpacked into a tree in memory only."""

import random
import tarfile
from pathlib import Path

import pytest

from b2d.errors import DownloadError
from b2d.image.build.deb import unpack
from b2d.image.build.fs_tree import Kind, Tree
from tests.support.deb_builder import MADE, Member, a_deb, other, regular

NOISE = random.Random(1).randbytes(20_000)
TEXT = b"".join(b"%d " % random.Random(i).randrange(10**9) for i in range(20_000))


def unpacked(folder: Path, content: bytes, *unwanted: str) -> Tree:
    tree = Tree()
    path = folder / "some.deb"
    path.write_bytes(content)
    unpack(path, "some 1.0", tree, lambda name: name not in unwanted)
    return tree


@pytest.mark.parametrize("packing", ["gz", "xz", "zst"])
def test_files_are_unpacked_from_any_compression(tmp_path: Path, packing: str) -> None:
    tree = unpacked(tmp_path, a_deb(regular("./etc/some.conf", b"text" * 10_000, 0o640), packing=packing))
    assert list(dict(tree)) == ["etc", "etc/some.conf"]
    node = tree["etc/some.conf"]
    assert (node.content, node.mode) == (b"text" * 10_000, 0o640)


def test_the_timestamp_of_a_package_is_that_of_its_newest_file(tmp_path: Path) -> None:
    path = tmp_path / "some.deb"
    path.write_bytes(a_deb(regular("./a", mtime=MADE + 5), regular("./b", mtime=MADE)))
    assert unpack(path, "some", Tree(), lambda _name: False) == MADE + 5


def test_folders_merged_into_usr_are_unpacked_below_usr(tmp_path: Path) -> None:
    tree = unpacked(tmp_path, a_deb(other("./", tarfile.DIRTYPE), regular("./bin/sh"), regular("lib64/ld.so")))
    assert sorted(tree.nodes) == ["usr", "usr/bin", "usr/bin/sh", "usr/lib64", "usr/lib64/ld.so"]


def test_modes_and_links_are_preserved(tmp_path: Path) -> None:
    members = (
        other("./usr/bin/vi", tarfile.SYMTYPE, "/etc/alternatives/vi"),
        regular("./usr/bin/sudo", b"sudo", 0o4755),
        other("./usr/bin/sudoedit", tarfile.LNKTYPE, "./usr/bin/sudo"),
    )
    tree = unpacked(tmp_path, a_deb(*members))
    assert (tree["usr/bin/vi"].kind, tree["usr/bin/vi"].target) == (Kind.LINK, "/etc/alternatives/vi")
    assert tree["usr/bin/sudo"].mode == 0o4755
    assert tree["usr/bin/sudoedit"].content == b"sudo"


def test_a_hard_link_to_an_excluded_file_has_its_content(tmp_path: Path) -> None:
    link = other("./usr/bin/tool", tarfile.LNKTYPE, "./usr/share/doc/tool")
    tree = unpacked(tmp_path, a_deb(regular("./usr/share/doc/tool", b"tool"), link), "usr/share/doc/tool")
    assert "usr/share/doc/tool" not in tree
    assert tree["usr/bin/tool"].content == b"tool"


@pytest.mark.parametrize("name", ["../evil", "./usr/../../evil", "/../evil", "usr/.."])
def test_a_path_outside_the_tree_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DownloadError, match="unsafe path"):
        unpacked(tmp_path, a_deb(regular(name, b"evil")))
    assert not (tmp_path.parent / "evil").exists()


def test_an_absolute_path_is_relative_to_the_tree(tmp_path: Path) -> None:
    assert list(dict(unpacked(tmp_path, a_deb(regular("//evil/b2d"))))) == ["evil", "evil/b2d"]
    assert not Path("/evil").exists()


@pytest.mark.parametrize(
    "members",
    [
        [other("./dev/sda", tarfile.BLKTYPE)],
        [other("./run/pipe", tarfile.FIFOTYPE)],
        [other("./usr/bin/tool", tarfile.LNKTYPE, "./usr/bin/none")],
    ],
    ids=["device", "pipe", "dangling"],
)
def test_unsupported_members_are_refused(tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(DownloadError, match=r"some 1\.0"):
        unpacked(tmp_path, a_deb(*members))


@pytest.mark.parametrize("packing", ["gz", "xz", "zst"])
@pytest.mark.parametrize("cut", [0, 4, 100, 300, -400, -3000])
def test_a_truncated_package_is_reported(tmp_path: Path, packing: str, cut: int) -> None:
    with pytest.raises(DownloadError, match=r"some 1\.0 cannot be unpacked"):
        unpacked(tmp_path, a_deb(regular("./noise", NOISE), packing=packing)[:cut])


@pytest.mark.parametrize(
    ("packing", "at"),
    [
        ("gz", 0),
        ("gz", 70),
        ("gz", 400),
        ("gz", 10_000),
        ("xz", 400),
        ("xz", 10_000),
        ("xz", -10_000),
        ("zst", 400),
        ("zst", 10_000),
    ],
)
def test_a_damaged_package_is_reported(tmp_path: Path, packing: str, at: int) -> None:
    content = bytearray(a_deb(regular("./text", TEXT), packing=packing))
    content[at : at + 400] = b"~" * 400
    with pytest.raises(DownloadError, match=r"some 1\.0 cannot be unpacked"):
        unpacked(tmp_path, bytes(content))
