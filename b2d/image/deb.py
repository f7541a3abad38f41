"""A Debian package is unpacked into a tree; none of its scripts is run."""

import tarfile
from collections.abc import Callable
from pathlib import Path

from b2d.errors import DownloadFailed
from b2d.image.tree import Kind, Node, Tree, normal


def unpack(path: Path, package: str, tree: Tree, wanted: Callable[[str], bool]) -> int:
    """Put the `wanted` files of a .deb into the tree; return when its newest one was made (Unix time).

    Raises DownloadFailed for a broken one.
    """
    from debian.arfile import ArError
    from debian.debfile import DebError, DebFile

    newest = 0
    try:
        with path.open("rb") as file:
            archive = DebFile(fileobj=file).data.tgz()
            for member in archive:
                newest = max(newest, int(member.mtime))
                _put(archive, member, package, tree, wanted)
    except (ArError, DebError, tarfile.TarError, EOFError, OSError) as error:
        raise DownloadFailed(f"the package {package} cannot be unpacked: {error}") from error
    return newest


def _put(
    archive: tarfile.TarFile, member: tarfile.TarInfo, package: str, tree: Tree, wanted: Callable[[str], bool]
) -> None:
    path = normal(member.name)
    if not path or not wanted(path):
        return
    mode = member.mode & 0o7777
    if member.isdir():
        if path not in tree:
            tree.put(path, Node(Kind.FOLDER, mode, package=package))
    elif member.issym():
        tree.put(path, Node(Kind.LINK, 0o777, target=member.linkname, package=package))
    elif member.islnk():
        tree.put(path, tree[normal(member.linkname)])
    elif member.isfile():
        content = archive.extractfile(member)
        assert content is not None  # a regular file has content
        tree.put(path, Node(Kind.FILE, mode, content.read(), uid=member.uid, gid=member.gid, package=package))
    else:
        raise DownloadFailed(f"the package {package} holds a device: {member.name}")
