"""What a machine of VirtualBox is made of, as data: which attribute of its API gets which value, by version.

The names are those of VirtualBox's SDK reference. What moved between versions is in the tables at the top.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from b2d.models import GUEST_SSH_PORT, Forward, MachineSpec

Version = tuple[int, int]
Entry = TypeVar("Entry")
DISK, DVD = "HardDisk", "DVD"
# The CDs are on IDE: on SATA VirtualBox tells a guest that was saved that its CDs were changed, and Linux reads nothing
# more from a changed CD, on which is its root (seen on 7.2).
CONTROLLERS = {DISK: "SATA", DVD: "IDE"}
ISO_PORT, SEED_PORT = 0, 1  # of IDE
DATA_PORT = 0  # of SATA
VIDEO_MIB = 9  # a text console, and a picture of it
MAX_CPUS = 32  # more make a boot slower, not faster
LINK_UP_DELAY = "VBoxInternal/Devices/e1000/{}/Config/LinkUpDelay"  # in ms; DevE1000.cpp of VirtualBox's source
SSH_RULE, DOCKER_RULE = "b2d-ssh", "b2d-docker"

# the first version of the API that has them there; the newest that is not newer than VirtualBox counts
RTC = {(6, 1): "RTCUseUTC", (7, 1): "platform.RTCUseUTC"}
FIRMWARE = {(6, 1): "BIOSSettings", (7, 1): "firmwareSettings"}
AUDIO = {(6, 1): "audioAdapter", (7, 0): "audioSettings.adapter"}
CPU_PROPERTY = {
    (6, 1): ("setCPUProperty", "CPUPropertyType"),
    (7, 1): ("platform.x86.setCPUProperty", "CPUPropertyTypeX86"),
}
BOOT_MENU = {(6, 1): "BIOSBootMenuMode", (7, 1): "FirmwareBootMenuMode"}
OLDEST: Version = (6, 1)


@dataclass(frozen=True, slots=True)
class Constant:
    """A value of one of VirtualBox's enumerations: what number it is, the installed version knows."""

    enumeration: str
    name: str


Value = str | int | bool | Constant


@dataclass(frozen=True, slots=True)
class Assign:
    """Give an attribute its value; `path` goes from the machine on, over attributes and getters of one number."""

    path: str
    value: Value


@dataclass(frozen=True, slots=True)
class Call:
    """Call a method."""

    path: str
    arguments: tuple[Value, ...]


Step = Assign | Call


def create_arguments(name: str, settings: str, version: Version) -> list[object]:
    """What IVirtualBox.createMachine wants: arrays are given without their length."""
    groups, system, flags = ["/"], "Linux26_64", ""
    if version < (7, 0):
        return [settings, name, groups, system, flags]
    unencrypted = ["", "", ""]
    if version < (7, 1):
        return [settings, name, groups, system, flags, *unencrypted]
    return [settings, name, Constant("PlatformArchitecture", "x86"), groups, system, flags, *unencrypted]


def open_arguments(settings: str, version: Version) -> list[object]:
    """What IVirtualBox.openMachine wants: since 7.0 a password too, for settings that are encrypted."""
    return [settings] if version < (7, 0) else [settings, ""]


def board(version: Version) -> list[Step]:
    """What never changes of a machine."""
    firmware = newest(FIRMWARE, version)
    set_cpu_property, properties = newest(CPU_PROPERTY, version)
    return [
        Assign(newest(RTC, version), True),
        Assign(f"{firmware}.IOAPICEnabled", True),
        Assign(f"{firmware}.ACPIEnabled", True),
        Assign(f"{firmware}.bootMenuMode", Constant(newest(BOOT_MENU, version), "Disabled")),
        Assign(f"{firmware}.logoFadeIn", False),
        Assign(f"{firmware}.logoFadeOut", False),
        Assign(f"{firmware}.logoDisplayTime", 0),
        Call(set_cpu_property, (Constant(properties, "PAE"), True)),
        Assign(f"{newest(AUDIO, version)}.enabled", False),
        Assign("graphicsAdapter.VRAMSize", VIDEO_MIB),
        Assign("pointingHIDType", Constant("PointingHIDType", "PS2Mouse")),
        Call("setBootOrder", (1, Constant("DeviceType", "DVD"))),
        *(Call("setBootOrder", (place, Constant("DeviceType", "Null"))) for place in (2, 3, 4)),
        *(Call("addStorageController", (name, Constant("StorageBus", name))) for name in CONTROLLERS.values()),
        Assign(f"getStorageControllerByName({CONTROLLERS[DISK]}).portCount", DATA_PORT + 1),
        Assign(f"getStorageControllerByName({CONTROLLERS[DISK]}).useHostIOCache", True),
    ]


def drives() -> list[Step]:
    """The two drives, empty; what lies in them is put there before each boot."""
    kind = Constant("DeviceType", "DVD")
    ports = (ISO_PORT, SEED_PORT)
    return [Call("attachDeviceWithoutMedium", (CONTROLLERS[DVD], port, 0, kind)) for port in ports]


def of_spec(spec: MachineSpec, serial_log: str) -> list[Step]:
    """What the spec says, before each boot: a person may have changed it, or somebody in VirtualBox's window."""
    return [
        Assign("name", spec.name),
        Assign("memorySize", spec.memory_mib),
        Assign("CPUCount", cpus(spec)),
        *network_card(0),
        Assign("getNetworkAdapter(0).attachmentType", Constant("NetworkAttachmentType", "NAT")),
        Assign("getSerialPort(0).path", serial_log),
        Assign("getSerialPort(0).hostMode", Constant("PortMode", "RawFile")),
        Assign("getSerialPort(0).enabled", True),
    ]


def network_card(number: int) -> list[Step]:
    """One of Intel's PRO/1000 MT, whose cable is in at once.

    VirtualBox's virtio card writes over its own memory: a machine that went on from saved for the third time ends by a
    segmentation fault when it is saved again, and what was saved is lost (7.2.22, every time). And of any card it takes
    the cable out for five seconds when a machine goes on, which only matters where the network is another one then.
    """
    return [
        Assign(f"getNetworkAdapter({number}).enabled", True),
        Assign(f"getNetworkAdapter({number}).adapterType", Constant("NetworkAdapterType", "I82540EM")),
        Call("setExtraData", (LINK_UP_DELAY.format(number), "0")),
    ]


def no_network_card(number: int) -> list[Step]:
    """None; what is told of a card that is not there would keep the machine from starting (seen on 7.2)."""
    return [
        Assign(f"getNetworkAdapter({number}).enabled", False),
        Call("setExtraData", (LINK_UP_DELAY.format(number), "")),
    ]


def forwards(spec: MachineSpec) -> list[Step]:
    """The guest's ports on the machine's own address of this host."""
    tcp = Constant("NATProtocol", "TCP")
    rules = (
        (SSH_RULE, spec.ssh_port, GUEST_SSH_PORT),
        (DOCKER_RULE, spec.forwarded_docker_port, spec.guest_docker_port),
    )
    return [
        Call("getNetworkAdapter(0).NATEngine.addRedirect", (name, tcp, spec.address, port, "", guest_port))
        for name, port, guest_port in rules
    ]


def with_forward(name: str, forward: Forward) -> list[Step]:
    """A rule for one more port; the guest's second addresses are those of b2d's image (iso/rootfs/etc/b2d/dhcp)."""
    protocol = Constant("NATProtocol", forward.protocol.upper())
    arguments = (name, protocol, forward.address, forward.port, forward.inside, forward.port)
    return [Call("getNetworkAdapter(0).NATEngine.addRedirect", arguments)]


def host_loopback(version: Version, reachable: bool) -> list[Step]:
    """Whether the guest reaches this host's 127.0.0.1; before 7.0 it always does."""
    return [] if version < (7, 0) else [Assign("getNetworkAdapter(0).NATEngine.localhostReachable", reachable)]


def without_forwards(names: Iterable[str]) -> list[Step]:
    """Take rules out."""
    return [Call("getNetworkAdapter(0).NATEngine.removeRedirect", (name,)) for name in names]


def line(socket: str) -> list[Step]:
    """The second serial port, as a socket of this host that VirtualBox makes; "" for none."""
    port = "getSerialPort(1)"
    if not socket:
        return [Assign(f"{port}.enabled", False)]
    return [
        Assign(f"{port}.path", socket),
        Assign(f"{port}.hostMode", Constant("PortMode", "HostPipe")),
        Assign(f"{port}.server", True),
        Assign(f"{port}.enabled", True),
    ]


def shared(name: str, path: str, *, writable: bool) -> Step:
    """A folder of this host; where it is mounted, the guest decides."""
    return Call("createSharedFolder", (name, path, writable, False, ""))


def unshared(names: Iterable[str]) -> list[Step]:
    """Take folders back."""
    return [Call("removeSharedFolder", (name,)) for name in names]


def cpus(spec: MachineSpec) -> int:
    """As many as asked for, else those of this host."""
    return spec.cpus or min(os.cpu_count() or 1, MAX_CPUS)


def newest(table: Mapping[Version, Entry], version: Version) -> Entry:
    """The entry that holds for a version of the API."""
    return table[max(known for known in table if known <= max(version, OLDEST))]
