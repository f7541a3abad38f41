"""Write a tree as a cpio archive of the new ASCII format, which the kernel unpacks as its initramfs."""

import stat

from b2d.image.build.fs_tree import Kind, Node, Tree

TYPES = {Kind.FILE: stat.S_IFREG, Kind.FOLDER: stat.S_IFDIR, Kind.LINK: stat.S_IFLNK}


def pack(tree: Tree, mtime: int) -> bytes:
    """Return the archive (cpio(5), "newc"); every file has `mtime` (Unix time)."""
    parts = [_entry(number, path, node, mtime) for number, (path, node) in enumerate(tree, start=1)]
    parts.append(_record(0, 0, 0, "TRAILER!!!", b""))
    return b"".join(parts)


def _entry(number: int, path: str, node: Node, mtime: int) -> bytes:
    content = node.target.encode() if node.kind is Kind.LINK else node.content
    return _record(number, TYPES[node.kind] | node.mode, mtime, path, content)


def _record(number: int, mode: int, mtime: int, path: str, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    uid = gid = 0
    links = 1
    # inode, mode, uid, gid, links, mtime, size, device (4 fields), length of the name, checksum
    fields = (number, mode, uid, gid, links, mtime, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields)
    return _padded(header + name) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)
