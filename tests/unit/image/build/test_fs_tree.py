"""A tree of nodes represents a file system and needs no privileges."""

import pytest

from b2d.errors import B2dError
from b2d.image.build.fs_tree import Kind, Tree, file, folder, link, normalize


def a_tree(*paths: str) -> Tree:
    tree = Tree()
    for path in paths:
        tree.put(path, file(path.encode()))
    return tree


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("./bin/sh", "usr/bin/sh"),
        ("/lib64/ld.so", "usr/lib64/ld.so"),
        ("usr//lib/./x", "usr/lib/x"),
        ("binary", "binary"),
        ("opt/bin", "opt/bin"),
        ("./", ""),
    ],
)
def test_paths_are_normalised(path: str, normal: str) -> None:
    assert normalize(path) == normal


def test_every_parent_folder_of_a_node_exists_and_comes_first() -> None:
    assert [path for path, _ in a_tree("b/c/d", "a-b", "a/z")] == ["a", "a-b", "a/z", "b", "b/c", "b/c/d"]


def test_replacing_a_folder_preserves_its_content() -> None:
    tree = a_tree("tmp/x")
    tree.put("tmp", folder(0o1777))
    assert tree["tmp"].mode == 0o1777 and "tmp/x" in tree


def test_a_path_through_a_link_or_a_file_is_refused() -> None:
    tree = a_tree("file")
    tree.put("run", link("/somewhere/else"))
    for path in ("run/x", "file/x", "file/x/y"):
        with pytest.raises(B2dError, match="not a folder"):
            tree.put(path, file(b""))


def test_removing_a_pattern_removes_whole_folders() -> None:
    tree = a_tree("usr/share/doc/a/b", "usr/share/docs", "usr/lib/x/gconv/y")
    assert tree.remove("usr/share/doc/*") == 2
    assert tree.remove("usr/lib/*/gconv/*") == 1
    assert tree.remove("nothing*") == 0
    assert "usr/share/docs" in tree and "usr/share/doc/a" not in tree


def test_empty_folders_are_pruned() -> None:
    tree = a_tree("a/b/file", "ab/c")
    for path in ("a/empty/emptier", "ab-c", "z"):
        tree.put(path, folder())
    tree.put("links/here", link("nowhere"))
    tree.prune()
    assert list(dict(tree)) == ["a", "a/b", "a/b/file", "ab", "ab/c", "links", "links/here"]


def test_changing_the_mode_preserves_the_content() -> None:
    tree = a_tree("etc/shadow")
    tree.change_mode("etc/shadow", 0o600)
    node = tree["etc/shadow"]
    assert (node.kind, node.content, node.mode) == (Kind.FILE, b"etc/shadow", 0o600)
    with pytest.raises(B2dError, match="etc/gshadow"):
        tree.change_mode("etc/gshadow", 0o600)
