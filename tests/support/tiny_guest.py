"""A guest that boots in two seconds: the kernel and programs of a real image, with an init that only counts.

It writes to its console `tiny: found N` (the count that its data disk held when it booted), then, five times
a second, `tiny: count N`, each number when the disk has it. The power button turns it off.
"""

import os
import re
from pathlib import Path

from b2d.models import Image, MachineSpec
from b2d.network import port_allocation
from b2d.paths import MachinePaths
from tests.support.fakes import a_spec

BOOT_TIMEOUT_S = 120.0
COUNT_OFFSET = 1024 * 1024  # bytes into the data disk, away from the payload
INIT = f"""#!/bin/sh
/bin/busybox --install -s /tiny
export PATH=/tiny
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec >/dev/ttyS0 2>&1
while read -r module; do insmod "/modules/$module"; done </modules/root_disk
for disk in /sys/block/vd*; do
    case $(cat $disk/serial) in
    b2d-root) mount -t squashfs -o ro /dev/${{disk##*/}} /lower ;;
    b2d-data) data=/dev/${{disk##*/}} ;;
    esac
done
for module in $(find /lower/usr/lib/modules -name 'button.ko*' -o -name 'evdev.ko*'); do insmod $module; done
acpid -d &
count=$(dd if=$data bs=512 skip={COUNT_OFFSET // 512} count=1 2>/dev/null | tr -dc 0-9)
echo "tiny: found ${{count:-0}}"
while :; do
    count=$((${{count:-0}} + 1))
    printf '%-512s' $count | dd of=$data bs=512 seek={COUNT_OFFSET // 512} conv=notrunc,fsync 2>/dev/null
    echo "tiny: count $count"
    sleep 0.2
done
"""
POWER_BUTTON = "#!/bin/sh\nsync\n/tiny/poweroff -f\n"


def spec() -> MachineSpec:
    """Return the spec of a small machine on free ports."""
    address = "127.0.59.250"
    first = port_allocation.reserve_ports(address, 20000 + os.getpid() % 20000)
    return a_spec(address=address, ssh_port=first, docker_port=port_allocation.reserve_ports(address, first + 1))


def folder(place: Path) -> MachinePaths:
    """Create the folder of a machine that is to be created there."""
    paths = MachinePaths(place)
    paths.folder.mkdir(mode=0o700)
    paths.seed.write_bytes(bytes(2048))
    return paths


def image(whole: Image, folder: Path) -> Image:
    """Return an image like `whole` that boots into the counter; its initrd is written to `folder`."""
    if whole.initrd is None:
        raise AssertionError("only an image that boots directly can be made tiny")
    files = {"init": INIT, "tiny": None, "etc": None, "etc/acpi": None, "etc/acpi/PWRF": None}
    initrd = folder / "tiny.initrd"
    initrd.write_bytes(with_files(whole.initrd, files | {"etc/acpi/PWRF/00000080": POWER_BUTTON}))
    return whole._replace(initrd=initrd, kernel_arguments="console=ttyS0 quiet")


def with_files(initrd: Path, files: dict[str, str | None]) -> bytes:
    """Return an initrd with these executable files added; None is a folder.

    The kernel unpacks one archive after the other: later files replace earlier ones.
    """
    return _padded(initrd.read_bytes()) + _archive(files)


def counts(console: str) -> list[int]:
    """Return the numbers that the guest has counted."""
    return [int(number) for number in re.findall(r"tiny: count (\d+)", console)]


def initial_counts(console: str) -> list[int]:
    """Return the count on the disk at boot, in a list that is empty before the guest is up."""
    return [int(number) for number in re.findall(r"tiny: found (\d+)", console)]


def _archive(files: dict[str, str | None]) -> bytes:
    """Return a cpio archive (newc)."""
    members = [_member(name, content) for name, content in files.items()]
    return b"".join(members) + _member("TRAILER!!!", "")


def _member(name: str, content: str | None) -> bytes:
    data = (content or "").encode()
    mode = 0o040755 if content is None else 0o100755
    numbers = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name.encode() + b"\0") + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
