"""The hardware of a VirtualBox machine as data: values of attributes of its API, by version.

The names are those of VirtualBox's SDK reference. Names that moved between versions are in the tables at the top.
"""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from b2d.models import GUEST_SSH_PORT, Forward, MachineSpec

Version = tuple[int, int]
Entry = TypeVar("Entry")
DISK, DVD = "HardDisk", "DVD"
# The CDs are on IDE: on SATA VirtualBox reports changed CDs to a resumed guest, and Linux reads nothing more from a
# changed CD, which holds its root (seen on 7.2).
CONTROLLERS = {DISK: "SATA", DVD: "IDE"}
ISO_PORT, SEED_PORT = 0, 1  # of IDE
DATA_PORT = 0  # of SATA
VIDEO_MIB = 9  # for a text console and its screenshot
MAX_CPUS = 32  # more make a boot slower, not faster
LINK_UP_DELAY = "VBoxInternal/Devices/e1000/{}/Config/LinkUpDelay"  # in ms; DevE1000.cpp of VirtualBox's source
SSH_RULE, DOCKER_RULE = "b2d-ssh", "b2d-docker"

# by the first version of the API with that name; the newest that is not newer than VirtualBox applies
RTC = {(6, 1): "RTCUseUTC", (7, 1): "platform.RTCUseUTC"}
FIRMWARE = {(6, 1): "BIOSSettings", (7, 1): "firmwareSettings"}
AUDIO = {(6, 1): "audioAdapter", (7, 0): "audioSettings.adapter"}
CPU_PROPERTY = {
    (6, 1): ("setCPUProperty", "CPUPropertyType"),
    (7, 1): ("platform.x86.setCPUProperty", "CPUPropertyTypeX86"),
}
BOOT_MENU = {(6, 1): "BIOSBootMenuMode", (7, 1): "FirmwareBootMenuMode"}
OLDEST: Version = (6, 1)


class Constant(NamedTuple):
    """A value of one of VirtualBox's enumerations; its number depends on the installed version."""

    enumeration: str
    name: str


Value = str | int | bool | Constant


class Assign(NamedTuple):
    """An assignment to an attribute; `path` starts at the machine, over attributes and getters of one argument."""

    path: str
    value: Value


class Call(NamedTuple):
    """A call of a method."""

    path: str
    arguments: tuple[Value, ...]


Step = Assign | Call


def create_arguments(name: str, settings: str, version: Version) -> list[object]:
    """Return the arguments of IVirtualBox.createMachine: arrays are given without their length."""
    groups, system, flags = ["/"], "Linux26_64", ""
    if version < (7, 0):
        return [settings, name, groups, system, flags]
    unencrypted = ["", "", ""]
    if version < (7, 1):
        return [settings, name, groups, system, flags, *unencrypted]
    return [settings, name, Constant("PlatformArchitecture", "x86"), groups, system, flags, *unencrypted]


def open_arguments(settings: str, version: Version) -> list[object]:
    """Return the arguments of IVirtualBox.openMachine: since 7.0 also a password for encrypted settings."""
    return [settings] if version < (7, 0) else [settings, ""]


def board(version: Version) -> list[Step]:
    """Return the settings that never change."""
    firmware = entry_for_version(FIRMWARE, version)
    set_cpu_property, properties = entry_for_version(CPU_PROPERTY, version)
    return [
        Assign(entry_for_version(RTC, version), True),
        Assign(f"{firmware}.IOAPICEnabled", True),
        Assign(f"{firmware}.ACPIEnabled", True),
        Assign(f"{firmware}.bootMenuMode", Constant(entry_for_version(BOOT_MENU, version), "Disabled")),
        Assign(f"{firmware}.logoFadeIn", False),
        Assign(f"{firmware}.logoFadeOut", False),
        Assign(f"{firmware}.logoDisplayTime", 0),
        Call(set_cpu_property, (Constant(properties, "PAE"), True)),
        Assign(f"{entry_for_version(AUDIO, version)}.enabled", False),
        Assign("graphicsAdapter.VRAMSize", VIDEO_MIB),
        Assign("pointingHIDType", Constant("PointingHIDType", "PS2Mouse")),
        Call("setBootOrder", (1, Constant("DeviceType", "DVD"))),
        *(Call("setBootOrder", (place, Constant("DeviceType", "Null"))) for place in (2, 3, 4)),
        *(Call("addStorageController", (name, Constant("StorageBus", name))) for name in CONTROLLERS.values()),
        Assign(f"getStorageControllerByName({CONTROLLERS[DISK]}).portCount", DATA_PORT + 1),
        Assign(f"getStorageControllerByName({CONTROLLERS[DISK]}).useHostIOCache", True),
    ]


def drives() -> list[Step]:
    """Return the two drives, empty; their media are inserted before each boot."""
    kind = Constant("DeviceType", "DVD")
    ports = (ISO_PORT, SEED_PORT)
    return [Call("attachDeviceWithoutMedium", (CONTROLLERS[DVD], port, 0, kind)) for port in ports]


def spec_settings(spec: MachineSpec, serial_log: str) -> list[Step]:
    """Return the settings from the spec, applied before each boot.

    The user may have changed the spec, or somebody the machine in VirtualBox's window.
    """
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
    """Return an Intel PRO/1000 MT whose cable is connected at once.

    VirtualBox's virtio card overwrites its own memory: a machine that was resumed for the third time ends by a
    segmentation fault at the next save, and the state is lost (7.2.22, every time). And VirtualBox disconnects any card
    for five seconds at resume, which only matters when the network has changed.
    """
    return [
        Assign(f"getNetworkAdapter({number}).enabled", True),
        Assign(f"getNetworkAdapter({number}).adapterType", Constant("NetworkAdapterType", "I82540EM")),
        Call("setExtraData", (LINK_UP_DELAY.format(number), "0")),
    ]


def no_network_card(number: int) -> list[Step]:
    """Disable a card. Extra data of a missing card would keep the machine from starting (seen on 7.2)."""
    return [
        Assign(f"getNetworkAdapter({number}).enabled", False),
        Call("setExtraData", (LINK_UP_DELAY.format(number), "")),
    ]


def forwards(spec: MachineSpec) -> list[Step]:
    """Return the forwards from the machine's own address on this host to the guest's SSH and Docker."""
    tcp = Constant("NATProtocol", "TCP")
    rules = (
        (SSH_RULE, spec.ssh_port, GUEST_SSH_PORT),
        (DOCKER_RULE, spec.forwarded_docker_port, spec.guest_docker_port),
    )
    return [
        Call("getNetworkAdapter(0).NATEngine.addRedirect", (name, tcp, spec.address, port, "", guest_port))
        for name, port, guest_port in rules
    ]


def add_forward(name: str, forward: Forward) -> list[Step]:
    """Return the rule of a further port; further guest addresses are those of b2d's image (iso/rootfs/etc/b2d/dhcp)."""
    protocol = Constant("NATProtocol", forward.protocol.upper())
    arguments = (name, protocol, forward.address, forward.port, forward.inside, forward.port)
    return [Call("getNetworkAdapter(0).NATEngine.addRedirect", arguments)]


def host_loopback(version: Version, reachable: bool) -> list[Step]:
    """Set whether the guest reaches this host's 127.0.0.1; before 7.0 it always does."""
    return [] if version < (7, 0) else [Assign("getNetworkAdapter(0).NATEngine.localhostReachable", reachable)]


def remove_forwards(names: Iterable[str]) -> list[Step]:
    """Remove rules by name."""
    return [Call("getNetworkAdapter(0).NATEngine.removeRedirect", (name,)) for name in names]


def control_port(socket: str) -> list[Step]:
    """Set the second serial port to a socket that VirtualBox creates on this host; "" for none."""
    port = "getSerialPort(1)"
    if not socket:
        return [Assign(f"{port}.enabled", False)]
    return [
        Assign(f"{port}.path", socket),
        Assign(f"{port}.hostMode", Constant("PortMode", "HostPipe")),
        Assign(f"{port}.server", True),
        Assign(f"{port}.enabled", True),
    ]


def add_share(name: str, path: str, *, writable: bool) -> Step:
    """Share a folder of this host; the guest decides where to mount it."""
    return Call("createSharedFolder", (name, path, writable, False, ""))


def remove_shares(names: Iterable[str]) -> list[Step]:
    """Remove shared folders by name."""
    return [Call("removeSharedFolder", (name,)) for name in names]


def cpus(spec: MachineSpec) -> int:
    """Return the number of CPUs of the spec, else that of this host."""
    return spec.cpus or min(os.cpu_count() or 1, MAX_CPUS)


def entry_for_version(table: Mapping[Version, Entry], version: Version) -> Entry:
    """Return the table's entry for a version of the API."""
    return table[max(known for known in table if known <= max(version, OLDEST))]
