"""A tree as a compressed, read-only file system: squashfs by mksquashfs, else a packed cpio."""

import gzip
import io
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path

from b2d.host import processes
from b2d.image.build import cpio
from b2d.image.build.fs_tree import Kind, Node, Tree

PROGRAM = "mksquashfs"
LEVEL = 17  # of zstd: 19 takes half as long again, for 0.04 % less
BLOCK = "256K"  # bytes: 2 % smaller than 128K
LIMIT_S = 1200.0
TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.FOLDER: tarfile.DIRTYPE, Kind.LINK: tarfile.SYMTYPE}


def available() -> bool:
    """True when mksquashfs is installed, reads a tar archive from stdin (since 4.5), and knows zstd."""
    if shutil.which(PROGRAM) is None:
        return False
    said = processes.run([PROGRAM, "-help"], timeout_s=20)
    return all(word in said.stdout + said.stderr for word in (b"-tar", b"zstd"))


def pack(tree: Tree, mtime: int, output: Path) -> None:
    """Write the squashfs. Twice from the same tree, whatever the number of processors: the same bytes."""
    output.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as stream:
        _write_tar(tree, mtime, stream)
        stream.seek(0)
        options = ["-tar", "-noappend", "-no-progress", "-quiet", "-b", BLOCK]
        # the root folder is in no tar: it would be of now, of whoever builds, and open to all
        options += ["-mkfs-time", str(mtime), "-all-time", str(mtime), "-all-root", "-root-mode", "0755"]
        compression = ["-comp", "zstd", "-Xcompression-level", str(LEVEL)]
        processes.check([PROGRAM, "-", str(output), *options, *compression], timeout_s=LIMIT_S, stdin=stream)


def pack_without(tree: Tree, mtime: int, output: Path) -> None:
    """Write what the boot can use where there is no mksquashfs: all of it is then unpacked into RAM."""
    output.write_bytes(gzip.compress(cpio.pack(tree, mtime), compresslevel=9, mtime=0))


def _write_tar(tree: Tree, mtime: int, stream: io.BufferedIOBase) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, node in tree:
            archive.addfile(_member(path, node, mtime), io.BytesIO(node.content))


def _member(path: str, node: Node, mtime: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = TYPES[node.kind]
    member.mode = stat.S_IMODE(node.mode)
    member.mtime = mtime
    member.linkname = node.target
    member.size = len(node.content)
    return member
