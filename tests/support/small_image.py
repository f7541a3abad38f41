"""A recipe and packages of an image that boots nothing and is built in a second."""

import lzma
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.deb_builder import Deb, a_deb, other, regular
from tests.support.debian_mirror import LocalDebian
from tests.support.kernel_images import a_module

KERNEL = "6.12.1+deb13-amd64"
MODULES = f"lib/modules/{KERNEL}"
RECIPE = """
[debian]
component = "main"
archives = [
    { name = "main", path = "dists/trixie", base = "debian", required = true },
    { name = "updates", path = "dists/trixie-updates", base = "debian", required = false },
    { name = "security", path = "dists/trixie-security", base = "debian-security", required = false },
]
keys = ["archive.gpg"]
mirrors = []
[kernel]
package = "linux-image-amd64"
arguments = ["console=ttyS0", "quiet"]
[packages]
root = ["busybox-static", "ca-certificates", "docker.io"]
medium = ["isolinux", "syslinux-common"]
[files]
remove = ["boot/*", "usr/share/doc/*"]
folders = { "tmp" = "1777" }
[files.links]
"bin" = "usr/bin"
[files.modes]
"etc/shadow" = "600"
[busybox]
program = "usr/bin/busybox"
sbin = ["init"]
bin = ["sh", "dockerd"]
[stage1]
applets = ["sh"]
folders = ["dev", "proc"]
[stage1.modules]
root_disk = ["virtio_blk"]
drives = ["isofs"]
[modules]
keep = ["overlay", "ext4"]
"""


def a_recipe(folder: Path, debian: LocalDebian, text: str = RECIPE) -> Path:
    """Create the folder of a recipe that trusts the key of `debian`."""
    for path in ("keys", "stage1", "rootfs/etc", "rootfs/home/docker"):
        (folder / path).mkdir(parents=True)
    debian.trusted(folder / "keys")
    (folder / "image.toml").write_text(text)
    (folder / "stage1/init").write_text("#!/bin/sh\n")
    (folder / "rootfs/etc/shadow").write_text("root:*\n")
    (folder / "rootfs/home/docker/notes").write_text("some\n")
    return folder


def packages(version: str = "26.1.5+dfsg1-9+b1") -> Sequence[Deb]:
    """Return all packages of the recipe; `version` is docker.io's."""
    licence = regular("./usr/share/doc/docker.io/copyright", b"Files: *\nLicense: Apache-2.0\n")
    prose = regular("./usr/share/doc/isolinux/copyright", b"See /usr/share/common-licenses/GPL-2.\n")
    contents = {
        f"linux-image-{KERNEL}": _kernel(),
        "busybox-static": a_deb(regular("./bin/busybox", b"busybox" * 1000, 0o755)),
        "ca-certificates": a_deb(regular("./usr/share/ca-certificates/mozilla/A.crt", b"-----BEGIN A-----\n")),
        "docker.io": a_deb(regular("./usr/sbin/dockerd", version.encode() * 1000, 0o755), licence),
        "isolinux": a_deb(regular("./usr/lib/ISOLINUX/isolinux.bin", bytes(range(256)) * 100), prose),
        "syslinux-common": a_deb(regular("./usr/lib/syslinux/modules/bios/ldlinux.c32", b"ldlinux" * 100)),
    }
    meta = Deb("linux-image-amd64", "6.12.1-1", a_deb(), depends=f"linux-image-{KERNEL} (= 6.12.1-1)")
    versions = {"docker.io": version, f"linux-image-{KERNEL}": "6.12.1-1"}
    return [meta, *(Deb(name, versions.get(name, "1.0-1"), content) for name, content in contents.items())]


def publish(debian: LocalDebian) -> None:
    """Publish the packages in main; updates and security exist and are empty."""
    debian.publish("trixie", *packages())
    debian.publish("trixie-updates")
    debian.publish("trixie-security")


def _kernel() -> bytes:
    modules = {
        "virtio_blk": "",
        "isofs": "cdrom",
        "cdrom": "",
        "overlay": "",
        "ext4": "jbd2,mbcache",
        "jbd2": "",
        "mbcache": "",
    }
    return a_deb(
        other("./lib", tarfile.DIRTYPE),
        regular(f"./boot/vmlinuz-{KERNEL}", b"kernel" * 1000),
        regular(f"./{MODULES}/modules.builtin", b"kernel/fs/fuse/fuse.ko\n"),
        regular(f"./{MODULES}/modules.order", b""),
        *(
            regular(f"./{MODULES}/kernel/{name}.ko.xz", lzma.compress(a_module(needs)))
            for name, needs in modules.items()
        ),
    )
