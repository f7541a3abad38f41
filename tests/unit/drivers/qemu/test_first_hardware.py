"""The first hardware revision is word for word the one that existing saved states were started with.

The words are those of b2d at commit 9b1e7a4, the last that knew no other revision: they never change.
"""

import shlex
from pathlib import Path

import pytest

from b2d.drivers.qemu import launcher, virtiofsd
from b2d.drivers.qemu.command_line import normalize_hardware
from b2d.drivers.qemu.launcher import Launcher
from b2d.models import HARDWARE, Image, MachineSpec
from b2d.paths import MachinePaths
from tests.support.fakes import a_spec
from tests.unit.drivers.qemu.test_command_line import DIRECT, FOREIGN

PATHS = MachinePaths(Path("/home/me/.b2d/machines/boot2docker-vm"))
BEGIN = """
-nodefaults -no-user-config -daemonize
-pidfile /home/me/.b2d/machines/boot2docker-vm/qemu.pid
-chardev socket,id=qmp,path=/home/me/.b2d/machines/boot2docker-vm/qmp.sock,server=on,wait=off
-mon chardev=qmp,mode=control
-name boot2docker-vm -machine pc -accel tcg -cpu qemu64 -m 512M -smp 1 -rtc base=utc,clock=host
-blockdev
driver=file,node-name=data-file,filename=/home/me/.b2d/machines/boot2docker-vm/disk.qcow2,discard=unmap
-blockdev driver=qcow2,node-name=data,file=data-file,discard=unmap
-device virtio-blk-pci,drive=data,serial=b2d-data,discard=on
"""
KERNEL = """
-kernel /images/1.vmlinux -initrd /images/1.initrd -append "console=tty0 console=ttyS0"
-blockdev driver=file,node-name=root-file,filename=/images/1.iso,read-only=on
-blockdev driver=raw,node-name=root,file=root-file,read-only=on,offset=4096,size=8192
-device virtio-blk-pci,drive=root,serial=b2d-root
"""
CD = """
-blockdev driver=file,node-name=iso-file,filename=/images/2.iso,read-only=on
-blockdev driver=raw,node-name=iso,file=iso-file,read-only=on
-device ide-cd,drive=iso -boot order=d
"""
SEED = """
-blockdev
driver=file,node-name=seed-file,filename=/home/me/.b2d/machines/boot2docker-vm/seed.img,read-only=on
-blockdev driver=raw,node-name=seed,file=seed-file,read-only=on
-device virtio-blk-pci,drive=seed,serial=b2d-seed
"""
NETWORK = "-netdev user,id=net,hostfwd=tcp::0-:22,hostfwd=tcp::0-:2376"
WITHOUT_TLS = "-netdev user,id=net,hostfwd=tcp::0-:22,hostfwd=tcp::0-:2375"
RESTRICTED = f"{NETWORK},restrict=on"
END = """
-device virtio-net-pci,netdev=net -device virtio-rng-pci -device virtio-balloon-pci,free-page-reporting=on
-device VGA -display none
-chardev file,id=serial,path=/home/me/.b2d/machines/boot2docker-vm/serial.log -serial chardev:serial
"""
PLAN9 = """
-fsdev local,id=b2d-0,path=/home/me,security_model=none,multidevs=remap
-device virtio-9p-pci,fsdev=b2d-0,mount_tag=b2d-0
-fsdev local,id=b2d-1,path=/src,security_model=none,multidevs=remap,readonly=on
-device virtio-9p-pci,fsdev=b2d-1,mount_tag=b2d-1
"""
VIRTIOFS = """
-object memory-backend-memfd,id=memory,size=512M,share=on -machine memory-backend=memory
-chardev socket,id=b2d-0,fd=0 -device vhost-user-fs-pci,chardev=b2d-0,tag=b2d-0
-chardev socket,id=b2d-1,fd=1 -device vhost-user-fs-pci,chardev=b2d-1,tag=b2d-1
"""
MANY = "".join(
    f"-fsdev local,id=b2d-{number},path=/f{number},security_model=none,multidevs=remap "
    f"-device virtio-9p-pci,fsdev=b2d-{number},mount_tag=b2d-{number} "
    for number in range(20)
)
LINE = """
-chardev socket,id=line,path=/home/me/.b2d/machines/boot2docker-vm/line.sock,server=on,wait=off -serial chardev:line
"""
TWO = ("/home/me", "/src:ro")
USUAL = [BEGIN, KERNEL, SEED, NETWORK, END]


def planned(spec: MachineSpec, image: Image = DIRECT) -> list[str]:
    return normalize_hardware(Launcher(spec, PATHS, lambda: image, "tcg").plan().hardware)


@pytest.mark.parametrize(
    ("spec", "of_old"),
    [
        (a_spec(), USUAL),
        (a_spec(tls=False, docker_port=2375), [BEGIN, KERNEL, SEED, WITHOUT_TLS, END]),
        (a_spec(restrict=True), [BEGIN, KERNEL, SEED, RESTRICTED, END]),
        (a_spec(folders=TWO), [*USUAL, PLAN9, LINE]),
        (a_spec(folders=tuple(f"/f{number}" for number in range(20))), [*USUAL, MANY, LINE]),
    ],
    ids=["TLS", "no TLS", "restricted", "folders", "many folders"],
)
def test_a_machine_of_the_first_hardware_revision_is_unchanged(spec: MachineSpec, of_old: list[str]) -> None:
    assert planned(spec) == normalize_hardware(shlex.split("".join(of_old)))


def test_a_machine_with_a_foreign_image_on_its_cd_is_unchanged() -> None:
    assert planned(a_spec(), FOREIGN) == normalize_hardware(shlex.split("".join([BEGIN, CD, SEED, NETWORK, END])))


def test_folders_shared_by_virtiofs_are_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_version", lambda: (10, 0))
    monkeypatch.setattr(virtiofsd, "find", lambda: "/usr/libexec/virtiofsd")
    assert planned(a_spec(folders=TWO)) == normalize_hardware(shlex.split("".join([*USUAL, VIRTIOFS, LINE])))


def test_the_current_hardware_differs() -> None:
    assert planned(a_spec(hardware=HARDWARE)) != planned(a_spec())
