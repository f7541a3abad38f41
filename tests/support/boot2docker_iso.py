"""Build a stand-in for boot2docker 19.03.12 from Debian 12: docs/boot2docker-stand-in.md says what it imitates.

python -m tests.support.boot2docker_iso OUTPUT
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import zstandard

from b2d.formats import bzimage, bzimage_uncompressed, iso_writer
from b2d.formats.squashfs import write_uncompressed
from b2d.image.build import builder, squashfs
from b2d.image.build.builder import BuildRequest
from b2d.reporting.base import Reporter
from tests.support.fakes import FakeReporter

RECIPE = Path(__file__).with_name("boot2docker_recipe")
LABEL = "b2d-v19.03.12"
MAX_INITRD = 256 << 20  # bytes
MENU = """\
serial 0
ui menu.c32
prompt 1
menu title Boot2Docker
timeout 2

label boot2docker
\tmenu label Boot2Docker
\tkernel /boot/vmlinuz
\tinitrd /boot/initrd.img
\tappend {arguments}
"""


def build(cache: Path, output: Path, reporter: Reporter) -> None:
    """Build the ISO at `output`, in about a minute, with packages that are kept below `cache`.

    Neither its kernel, its initrd nor its root file system is compressed, since emulated CPUs unpack slowly.
    """
    plan = builder.plan_build(BuildRequest("amd64", "", cache, output, recipe=RECIPE), reporter)
    unpacked = builder.unpack_packages(plan, reporter)
    with TemporaryDirectory(dir=output.parent, prefix=".boot2docker-") as folder:
        work = Path(folder)
        with mock.patch.object(squashfs, "LEVEL", 1):
            files = builder.compose_files(plan, unpacked, work, reporter)
        packed, root = files.pop("/b2d/root.squashfs"), work / "root.img"
        assert isinstance(packed, Path)
        with packed.open("rb") as source, root.open("wb") as target:
            write_uncompressed(source, 0, packed.stat().st_size, target)
        files["/boot/root.img"] = root
        files["/boot/initrd.img"] = _initrd(files.pop("/boot/initrd"))
        files["/boot/vmlinuz"] = _kernel(files["/boot/vmlinuz"])
        for name in ("menu.c32", "libutil.c32"):
            files[f"/isolinux/{name}"] = unpacked.medium[f"{builder.SYSLINUX_MODULES}/{name}"].content
        files["/isolinux/isolinux.cfg"] = MENU.format(arguments=plan.recipe.kernel_arguments).encode()
        iso_writer.write(files, LABEL, unpacked.mtime, work / "iso")
        (work / "iso").replace(output)


def _initrd(packed: bytes | Path) -> bytes:
    assert isinstance(packed, bytes)
    return zstandard.decompress(packed, MAX_INITRD)


def _kernel(packed: bytes | Path) -> bytes:
    assert isinstance(packed, bytes)
    kernel = bzimage.vmlinux(packed)
    assert kernel is not None
    return bzimage_uncompressed.uncompressed_kernel(packed, kernel)


if __name__ == "__main__":
    iso = Path(sys.argv[1]).resolve()
    build(iso.parent, iso, FakeReporter())
