"""The second network card: a network between this host and its machines alone, where it can be had without root.

With it what a container publishes is at an address of the machine's own, 192.168.59.103 and up as in 2014. Nothing of
b2d needs it. Since 6.1.28 users may choose addresses of VirtualBox's networks from 192.168.56.0/21 only.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2d.drivers.virtualbox.calls import (
    NOT_FOUND,
    VirtualBoxError,
    code_of,
    foreign_errors,
    translate_errors,
    wait_for_progress,
)
from b2d.drivers.virtualbox.hardware import Assign, Constant, Step, network_card, no_network_card
from b2d.errors import B2dError

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox

NETWORK = "192.168.59."
HOST, SERVER, FIRST, LAST = f"{NETWORK}3", f"{NETWORK}99", f"{NETWORK}103", f"{NETWORK}254"
MASK = "255.255.255.0"
NAME = "b2d"  # of a network on macOS
DEVICE = Path("/dev/vboxnetctl")  # of VirtualBox's network driver on Linux
MAKE_S = 30.0
NUMBER = 1
CARD = f"getNetworkAdapter({NUMBER})"


@dataclass(frozen=True, slots=True)
class SecondCard:
    """What the machine gets: a network by its name and kind, or none for a reason."""

    attribute: str = ""
    kind: str = ""
    name: str = ""
    reason: str = ""

    def steps(self) -> list[Step]:
        """How a machine that is off is given it."""
        if self.reason:
            return no_network_card(NUMBER)
        return [
            *network_card(NUMBER),
            Assign(f"{CARD}.attachmentType", Constant("NetworkAttachmentType", self.kind)),
            Assign(f"{CARD}.{self.attribute}", self.name),
        ]


def second_card(box: "VirtualBox", platform: str = sys.platform, device: Path = DEVICE) -> SecondCard:
    """The network with this host, made where there is none yet."""
    if platform == "linux" and not device.exists():
        return SecondCard(reason="VirtualBox's network driver is not in the kernel (modprobe vboxnetadp)")
    try:
        with translate_errors():
            if platform == "darwin" and box.api >= (7, 0):
                return SecondCard("hostOnlyNetwork", "HostOnlyNetwork", _network(box))
            return SecondCard("hostOnlyInterface", "HostOnly", _interface(box))
    except B2dError as error:
        return SecondCard(reason=error.message)


def _network(box: "VirtualBox") -> str:
    """macOS: a network of VirtualBox 7's new kind."""
    for network in box.array("hostOnlyNetworks"):
        if str(network.lowerIP).startswith(NETWORK):
            return str(network.networkName)
    made = box.call("createHostOnlyNetwork", NAME)
    made.networkMask, made.lowerIP, made.upperIP, made.enabled = MASK, FIRST, LAST, True
    return str(made.networkName)


def _interface(box: "VirtualBox") -> str:
    """Elsewhere: an interface of this host's, and a server that gives addresses."""
    kind = box.pyvbox.library.HostNetworkInterfaceType.host_only
    known = box.root.host.find_host_network_interfaces_of_type(kind)
    found = next((one for one in known if str(one.ip_address).startswith(NETWORK)), None)
    if found is None:
        found, progress = box.root.host.create_host_only_network_interface()
        wait_for_progress(progress, "the host-only network", MAKE_S)
        found.enable_static_ip_config(HOST, MASK)
    server = _server(box, str(found.network_name))
    server.set_configuration(SERVER, MASK, FIRST, LAST)
    server.enabled = True
    return str(found.name)


def _server(box: "VirtualBox", network: str) -> Any:
    try:
        return box.root.find_dhcp_server_by_network_name(network)
    except foreign_errors() as error:
        if code_of(error) != NOT_FOUND:
            raise VirtualBoxError(code_of(error), str(error)) from error
        return box.root.create_dhcp_server(network)
