"""A cpio archive holds the packed tree. (Real programs unpack it in tests/image/test_build.py.)"""

import stat

from b2d.image.build.cpio import pack
from b2d.image.build.fs_tree import Tree, file, folder, link
from tests.support.cpio_reader import entries

MTIME = 1_700_000_000


def a_tree() -> Tree:
    tree = Tree()
    tree.put("empty", folder(0o1777))
    tree.put("bin/busybox", file(bytes(range(256)) * 33, 0o4755))
    tree.put("bin/sh", link("busybox"))
    for length in range(1, 6):  # every padding of name and content
        tree.put(f"grüße/{'n' * length}", file(b"x" * (length - 1)))
    return tree


def test_an_archive_contains_the_tree() -> None:
    by_path = {entry.path: entry for entry in entries(pack(a_tree(), MTIME))}
    assert list(by_path) == [path for path, _ in a_tree()]
    for path, node in a_tree():
        entry = by_path[path]
        assert entry.content == (node.target.encode() or node.content)
        assert (stat.S_IMODE(entry.mode), entry.owner) == (node.mode, (0, 0))
        assert entry.mtime == MTIME
    kinds = {path: stat.S_IFMT(by_path[path].mode) for path in ("empty", "bin/busybox", "bin/sh")}
    assert kinds == {"empty": stat.S_IFDIR, "bin/busybox": stat.S_IFREG, "bin/sh": stat.S_IFLNK}
    assert len({entry.inode for entry in by_path.values()}) == len(by_path)  # equal inodes would be hard links


def test_the_same_tree_produces_the_same_bytes() -> None:
    turned = Tree(dict(reversed(a_tree().nodes.items())))
    assert pack(turned, MTIME) == pack(a_tree(), MTIME)
