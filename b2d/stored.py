"""An ISO of b2d's once more, with nothing in it compressed: for a machine whose CPU is emulated, and slow at that."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from b2d import bzimage, flat_kernel, medium, proc
from b2d.errors import B2dError
from b2d.iso9660 import read_volume
from b2d.model import Extent

KERNEL, INITRD = "/boot/vmlinuz", "/boot/initrd"  # where the boot loader's configuration looks for them

UNPACK, PACK = "unsquashfs", "mksquashfs"
LIMIT_S = 300.0
STORED = ("-noI", "-noD", "-noF", "-noX")  # inodes, data, fragments, extended attributes: nothing is compressed


def write(source: Path, root: tuple[str, Extent], files: Mapping[str, bytes], output: Path) -> bool:
    """Write the ISO `source` anew to `output`: its root (path, place) without compression, and `files` as they are.

    The kernel among them is laid out so that nobody need unpack it. False, and nothing written, where this host has
    no tools for that. The same input and tools give the same bytes.
    """
    path, place = root
    with TemporaryDirectory(dir=output.parent, prefix=".b2d-") as work:
        packed, unpacked, whole = (Path(work) / name for name in ("packed", "unpacked", "whole"))
        with source.open("rb") as file:
            file.seek(place.offset)
            packed.write_bytes(file.read(place.size))
        if not write_root(packed, unpacked):
            return False
        contents: dict[str, bytes | Path] = {**files, KERNEL: _kernel(files[KERNEL]), path: unpacked}
        medium.write(contents, read_volume(source).label, 0, whole)
        whole.chmod(0o600)
        whole.replace(output)
    return True


def write_root(packed: Path, output: Path) -> bool:
    """Write the squashfs `packed` to `output` without compression, all or nothing; needs no root.

    False where squashfs-tools are missing, or too old (before 4.5) to hand files over with their owners: then the
    packed one has to do. The same tools write the same bytes.
    """
    if shutil.which(UNPACK) is None or shutil.which(PACK) is None:
        return False
    with TemporaryDirectory(dir=output.parent, prefix=".b2d-") as work:
        files, written = Path(work) / "files", Path(work) / "root"
        try:
            proc.check([UNPACK, "-quiet", "-pf", str(files), str(packed)], timeout_s=LIMIT_S)
            options = ["-pf", str(files), "-noappend", "-no-progress", "-quiet", "-mkfs-time", "0"]
            proc.check([PACK, "-", str(written), *options, *STORED], timeout_s=LIMIT_S)
        except B2dError:
            return False
        written.chmod(0o600)
        written.replace(output)
    return True


def _kernel(packed: bytes) -> bytes:
    kernel = bzimage.vmlinux(packed)
    if kernel is None:
        return packed
    try:
        return flat_kernel.flat(packed, kernel)
    except flat_kernel.UnfitKernelError:
        return packed
