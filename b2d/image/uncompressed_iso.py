"""An ISO of b2d's once more, with nothing in it compressed: for a machine whose CPU is emulated, and slow at that."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from b2d.formats import bzimage, bzimage_uncompressed, iso_writer
from b2d.formats.iso9660 import read_volume
from b2d.formats.squashfs import write_uncompressed
from b2d.formats.squashfs_tables import SquashfsError
from b2d.models import Extent

KERNEL, INITRD = "/boot/vmlinuz", "/boot/initrd"  # where the boot loader's configuration looks for them


def write_iso(source: Path, root: tuple[str, Extent], files: Mapping[str, bytes], output: Path) -> bool:
    """Write the ISO `source` anew to `output`: its root (path, place) without compression, and `files` as they are.

    The kernel among them is laid out so that nobody need unpack it. False, and nothing written, for a root that is
    damaged or of a kind that is not known here: then the packed one has to do. The same input gives the same bytes.
    """
    path, place = root
    with TemporaryDirectory(dir=output.parent, prefix=".b2d-") as work:
        unpacked, whole = (Path(work) / name for name in ("unpacked", "whole"))
        if not write_rootfs(source, place, unpacked):
            return False
        contents: dict[str, bytes | Path] = {**files, KERNEL: _kernel(files[KERNEL]), path: unpacked}
        iso_writer.write(contents, read_volume(source).label, 0, whole)
        whole.chmod(0o600)
        whole.replace(output)
    return True


def write_rootfs(source: Path, place: Extent, output: Path) -> bool:
    """Write the squashfs at `place` of `source` to `output` without compression; False where that cannot be done.

    No other program reads it: what is in a foreign one could become a command there.
    """
    with source.open("rb") as packed, output.open("wb") as unpacked:
        output.chmod(0o600)
        try:
            write_uncompressed(packed, place.offset, place.size, unpacked)
        except SquashfsError:
            output.unlink()
            return False
    return True


def _kernel(packed: bytes) -> bytes:
    kernel = bzimage.vmlinux(packed)
    if kernel is None:
        return packed
    try:
        return bzimage_uncompressed.uncompressed_kernel(packed, kernel)
    except bzimage_uncompressed.UnfitKernelError:
        return packed
