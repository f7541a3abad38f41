"""Unpack a Debian package into a tree; none of its scripts is run."""

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from b2d.errors import DownloadError
from b2d.formats import compression
from b2d.host.files import open_regular
from b2d.image.build.fs_tree import Tree, file, folder, link, normalize

DATA_LIMIT = 1 << 30  # bytes of all files of a package; the kernel's has about 100 MB
FILE_LIMIT = 256 << 20  # bytes of a single file


def unpack(path: Path, package: str, tree: Tree, wanted: Callable[[str], bool]) -> int:
    """Add the `wanted` files of a .deb to the tree and return the time of the newest (Unix time).

    Raises DownloadError for a broken package.
    """
    from debian.arfile import ArError

    compression_errors = (lzma.LZMAError, zlib.error, EOFError)
    broken = (
        ArError,
        tarfile.TarError,
        ValueError,
        LookupError,
        TypeError,
        OverflowError,
        OSError,
        *compression_errors,
    )
    newest = 0
    try:
        with open_regular(path) as packed, _data(packed) as archive:
            for member in archive:
                newest = max(newest, int(member.mtime))
                _put(archive, member, package, tree, wanted)
    except broken as error:
        raise DownloadError(f"the package {package} cannot be unpacked: {error}") from error
    return newest


def _data(packed: BinaryIO) -> tarfile.TarFile:
    """Open the files of a package, whatever their compression. Raises KeyError where there are none."""
    from debian.arfile import ArFile

    members: list[Any] = ArFile(fileobj=packed).getmembers()
    for member in members:
        if member.name == "data.tar.zst":
            return tarfile.open(fileobj=io.BytesIO(compression.unzstd(member.read(), DATA_LIMIT)))
        if member.name.startswith("data.tar"):
            return tarfile.open(fileobj=member)
    raise KeyError("no data.tar")


def _put(
    archive: tarfile.TarFile, member: tarfile.TarInfo, package: str, tree: Tree, wanted: Callable[[str], bool]
) -> None:
    path = normalize(member.name)
    if ".." in path.split("/"):
        raise DownloadError(f"the package {package} contains an unsafe path: {member.name}")
    if not path or not wanted(path):
        return
    mode = member.mode & 0o7777
    if member.isdir():
        if path not in tree:
            tree.put(path, folder(mode))
    elif member.issym():
        tree.put(path, link(member.linkname))
    elif member.isfile() or member.islnk():  # a hard link is a second file: an image has room for both
        if member.issparse() or member.size > FILE_LIMIT:
            raise DownloadError(f"the package {package} contains a file of {member.size} bytes: {member.name}")
        stream = archive.extractfile(member)  # of a hard link: its target, which has a size of its own
        assert stream is not None  # only entries without content have no stream
        content = stream.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise DownloadError(f"the package {package} contains a file of more than {FILE_LIMIT} bytes: {member.name}")
        tree.put(path, file(content, mode))
    else:
        raise DownloadError(f"the package {package} contains a device: {member.name}")
