"""Write a tree as a compressed, read-only file system: squashfs by mksquashfs, else a compressed cpio."""

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
LEVEL = 18  # of zstd: 19 takes a third more time, for 0.2 % less
BLOCK = "512K"  # bytes: 2 % smaller than 256K
LIMIT_S = 1200.0
TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.FOLDER: tarfile.DIRTYPE, Kind.LINK: tarfile.SYMTYPE}


def is_available() -> bool:
    """Return whether mksquashfs is installed, reads a tar archive from stdin (since 4.5), and has zstd."""
    if shutil.which(PROGRAM) is None:
        return False
    usage = processes.run([PROGRAM, "-help"], timeout_s=20)
    return all(word in usage.stdout + usage.stderr for word in (b"-tar", b"zstd"))


def pack(tree: Tree, mtime: int, output: Path) -> None:
    """Write the squashfs; the same tree gives the same bytes, whatever the number of processors."""
    output.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as stream:
        _write_tar(tree, mtime, stream)
        stream.seek(0)
        options = ["-tar", "-noappend", "-no-progress", "-quiet", "-b", BLOCK]
        # the tar has no root folder: it would get the current time, the builder's ownership and an open mode
        options += ["-mkfs-time", str(mtime), "-all-time", str(mtime), "-all-root", "-root-mode", "0755"]
        compression = ["-comp", "zstd", "-Xcompression-level", str(LEVEL)]
        processes.check([PROGRAM, "-", str(output), *options, *compression], timeout_s=LIMIT_S, stdin=stream)


def pack_cpio(tree: Tree, mtime: int, output: Path) -> None:
    """Write a compressed cpio for hosts without mksquashfs: the boot unpacks all of it into RAM."""
    output.write_bytes(gzip.compress(cpio.pack(tree, mtime), compresslevel=6, mtime=0))


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
