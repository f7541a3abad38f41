"""A copy of b2d's ISO without compression, for machines with an emulated CPU, which decompresses slowly."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from b2d.formats import bzimage, bzimage_uncompressed, iso_writer
from b2d.formats.iso9660 import read_volume
from b2d.formats.squashfs import write_uncompressed
from b2d.formats.squashfs_tables import SquashfsError
from b2d.models import Extent

KERNEL, INITRD = "/boot/vmlinuz", "/boot/initrd"  # the paths in the boot loader's configuration


def write_iso(source: Path, root: tuple[str, Extent], files: Mapping[str, bytes], output: Path) -> bool:
    """Write the ISO `source` to `output` without compression: its root (path, extent), and `files` as they are.

    The kernel among them is laid out so that nothing unpacks it at boot. Returns False, and writes nothing, for a root
    that is damaged or of an unknown kind: then the compressed one is used. The same input gives the same bytes.
    """
    path, extent = root
    with TemporaryDirectory(dir=output.parent, prefix=".b2d-") as work:
        unpacked, iso = (Path(work) / name for name in ("unpacked", "whole"))
        if not write_rootfs(source, extent, unpacked):
            return False
        contents: dict[str, bytes | Path] = {**files, KERNEL: _kernel(files[KERNEL]), path: unpacked}
        iso_writer.write(contents, read_volume(source).label, 0, iso)
        iso.chmod(0o600)
        iso.replace(output)
    return True


def write_rootfs(source: Path, extent: Extent, output: Path) -> bool:
    """Write the squashfs at `extent` of `source` to `output` without compression; False where it cannot be read.

    No other program reads it: the content of a foreign one could become a command there.
    """
    with source.open("rb") as packed, output.open("wb") as unpacked:
        output.chmod(0o600)
        try:
            write_uncompressed(packed, extent.offset, extent.size, unpacked)
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
