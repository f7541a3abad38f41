"""QEMU's command line for a machine: a pure function of its spec, image, paths and accelerator."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from b2d.drivers.qemu.accelerator import Accelerator
from b2d.drivers.qemu.saved_state import DATA_NODE
from b2d.host import unix_sockets
from b2d.models import GUEST_SSH_PORT, Image, MachineSpec
from b2d.paths import MachinePaths

PROGRAM = "qemu-system-x86_64"
# QEMU's ACPI tables compute 128 interrupt routes, in a loop, for each PCI device: an emulated CPU takes 0.1 s for each.
# With this argument the kernel reads them from the table of the BIOS.
EMULATED_ARGUMENT = "acpi=noirq"
HOLD_ARGUMENT = "b2d.hold"  # iso/rootfs/etc/b2d/boot reads it
HELD_DISK = 1 << 20  # bytes: of the empty disks that a held guest gets in the place of a machine's


class Held(NamedTuple):
    """A guest that holds. It has the devices of a machine, with nothing of it in them; `disk` is its own data disk."""

    disk: Path | None = None  # None: an empty one


def build_arguments(
    spec: MachineSpec, image: Image, paths: MachinePaths, accelerator: Accelerator, cpus: int, held: Held | None = None
) -> list[str]:
    """Return all arguments after the program's name, with the data disk first.

    The order of the disks is their order in the guest. A boot2docker of 2014 takes the first blank disk that it sees,
    so nothing may come before the data disk.
    """
    return [
        *_process(paths),
        *_board(spec, accelerator, cpus),
        *_data_disk(held.disk if held else paths.disk_qcow2),
        *(_direct_boot(image, accelerator, held=bool(held)) if image.boots_directly else _cd_boot(image)),
        *_seed_disk(paths, held=bool(held)),
        *_network(spec),
        *_small_devices(spec),
        *_serial(spec, paths),
    ]


def spec_as_started(spec: MachineSpec, command: Sequence[str]) -> MachineSpec:
    """Return the spec with the memory and CPUs of a machine's command line; unchanged when it has none."""
    try:
        memory, cpus = (command[command.index(name) + 1] for name in ("-m", "-smp"))
        return spec._replace(memory_mib=int(memory.removesuffix("M")), cpus=int(cpus))
    except (ValueError, IndexError):
        return spec


def normalize_hardware(command: Sequence[str]) -> list[str]:
    """Return the arguments that a saved state depends on, also of a command recorded by an older b2d.

    A kernel that runs no longer reads its arguments.
    """
    pairs = pairwise(["", *command])
    return [word for option, word in pairs if word != "-daemonize" and option != "-append"]


def _process(paths: MachinePaths) -> list[str]:
    """Return the options of the process. QEMU runs in the machine's folder: a socket's full path may be too long."""
    socket = paths.qmp_socket if unix_sockets.fits(paths.qmp_socket) else paths.qmp_socket.name
    return [
        *("-nodefaults", "-no-user-config"),
        *("-pidfile", str(paths.qemu_pid)),
        *("-chardev", f"socket,id=qmp,path={quote_value(socket)},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
    ]


def _board(spec: MachineSpec, accelerator: Accelerator, cpus: int) -> list[str]:
    return [
        *("-name", quote_value(spec.name)),
        *("-machine", "pc"),
        *("-accel", accelerator.name),
        *("-cpu", accelerator.cpu),
        *("-m", f"{spec.memory_mib}M"),
        *("-smp", str(cpus)),
        *("-rtc", "base=utc,clock=host"),
    ]


def _data_disk(path: Path | None) -> list[str]:
    """Return the data disk. No option weakens the guest's flushes; discarded space returns to the host."""
    disk = [
        *("-blockdev", f"driver=file,node-name=data-file,filename={quote_value(path)},discard=unmap"),
        *("-blockdev", f"driver=qcow2,node-name={DATA_NODE},file=data-file,discard=unmap"),
    ]
    empty = f"driver=null-co,node-name={DATA_NODE},size={HELD_DISK},read-zeroes=on"
    return [
        *(disk if path else ["-blockdev", empty]),
        *("-device", f"virtio-blk-pci,drive={DATA_NODE},serial=b2d-data,discard=on"),
    ]


def _direct_boot(image: Image, accelerator: Accelerator, *, held: bool) -> list[str]:
    """Return the boot by a kernel that QEMU loads; the guest gets the root file system alone, as a disk."""
    if image.root is None:
        raise AssertionError("an image that boots directly has a root")
    arguments = [image.kernel_arguments, *[EMULATED_ARGUMENT] * accelerator.emulates, *[HOLD_ARGUMENT] * held]
    return [
        *("-kernel", str(image.kernel)),
        *("-initrd", str(image.initrd)),
        *("-append", " ".join(arguments)),
        *("-blockdev", _read_only_file("root-file", image.medium)),
        "-blockdev",
        f"driver=raw,node-name=root,file=root-file,read-only=on,offset={image.root.offset},size={image.root.size}",
        *("-device", "virtio-blk-pci,drive=root,serial=b2d-root"),
    ]


def _cd_boot(image: Image) -> list[str]:
    return [
        *("-blockdev", _read_only_file("iso-file", image.iso)),
        *("-blockdev", "driver=raw,node-name=iso,file=iso-file,read-only=on"),
        *("-device", "ide-cd,drive=iso"),
        *("-boot", "order=d"),
    ]


def _seed_disk(paths: MachinePaths, *, held: bool) -> list[str]:
    disk = [
        *("-blockdev", _read_only_file("seed-file", paths.seed)),
        *("-blockdev", "driver=raw,node-name=seed,file=seed-file,read-only=on"),
    ]
    empty = f"driver=null-co,node-name=seed,size={HELD_DISK},read-zeroes=on,read-only=on"
    return [
        *(["-blockdev", empty] if held else disk),
        *("-device", "virtio-blk-pci,drive=seed,serial=b2d-seed"),
    ]


def _network(spec: MachineSpec) -> list[str]:
    """Return QEMU's own network, which needs no root. The guest's ports are on the machine's own loopback address."""
    forwards = [(spec.forwarded_docker_port, spec.guest_docker_port)]
    if not spec.guarded:  # else the agent has that port of this host, and asks the kernel who connects
        forwards.insert(0, (spec.ssh_port, GUEST_SSH_PORT))
    options = ["user", "id=net", *(f"hostfwd=tcp:{spec.address}:{host}-:{guest}" for host, guest in forwards)]
    if spec.restrict:
        options.append("restrict=on")
    return ["-netdev", ",".join(options), "-device", "virtio-net-pci,netdev=net"]


def _small_devices(spec: MachineSpec) -> list[str]:
    """Return entropy from the first second, a balloon that returns idle memory, and a screen for screenshots.

    The counter of copies (vmgenid) has the guest's kernel take new randomness when its state is loaded.
    """
    counter = ("-device", "vmgenid,guid=auto") if spec.has_control_port else ()
    return [
        *counter,
        *("-device", "virtio-rng-pci"),
        *("-device", "virtio-balloon-pci,free-page-reporting=on"),
        *("-device", "VGA"),
        *("-display", "none"),
    ]


def _serial(spec: MachineSpec, paths: MachinePaths) -> list[str]:
    """Return the console as a file that QEMU appends to, because host_agent/log_rotation.py may truncate it."""
    appended = ",append=on" if spec.guarded else ""  # not on older hardware: its saved states would not fit
    return ["-chardev", f"file,id=serial,path={quote_value(paths.serial_log)}{appended}", "-serial", "chardev:serial"]


def _read_only_file(node: str, path: Path) -> str:
    return f"driver=file,node-name={node},filename={quote_value(path)},read-only=on"


def quote_value(text: object) -> str:
    """Return a text as the value of a QEMU option: commas are doubled."""
    return str(text).replace(",", ",,")
