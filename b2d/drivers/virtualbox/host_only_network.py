"""The second network card: a network between this host and its machines alone, if possible without root.

The ports that containers publish are then at an address of the machine's own, 192.168.59.103 and up as in 2014. b2d
needs none of it. Since 6.1.28 users may choose addresses of VirtualBox's networks from 192.168.56.0/21 only.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2d.drivers.virtualbox.calls import (
    NOT_FOUND,
    VirtualBoxError,
    error_code,
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
CREATE_S = 30.0
NUMBER = 1
CARD = f"getNetworkAdapter({NUMBER})"


@dataclass(frozen=True, slots=True)
class SecondCard:
    """The second network card: a network by its name and kind, or none with a reason."""

    attribute: str = ""
    kind: str = ""
    name: str = ""
    reason: str = ""

    def steps(self) -> list[Step]:
        """Return the steps that give it to a machine that is off."""
        if self.reason:
            return no_network_card(NUMBER)
        return [
            *network_card(NUMBER),
            Assign(f"{CARD}.attachmentType", Constant("NetworkAttachmentType", self.kind)),
            Assign(f"{CARD}.{self.attribute}", self.name),
        ]


def second_card(client: "VirtualBox", platform: str = sys.platform, device: Path = DEVICE) -> SecondCard:
    """Return the network with this host; create it when it does not exist yet."""
    if platform == "linux" and not device.exists():
        return SecondCard(reason="VirtualBox's network driver is not loaded (modprobe vboxnetadp)")
    try:
        with translate_errors():
            if platform == "darwin" and client.api >= (7, 0):
                return SecondCard("hostOnlyNetwork", "HostOnlyNetwork", _network(client))
            return SecondCard("hostOnlyInterface", "HostOnly", _interface(client))
    except B2dError as error:
        return SecondCard(reason=error.message)


def _network(client: "VirtualBox") -> str:
    """Return the host-only network of macOS, which is of VirtualBox 7's new kind."""
    for network in client.array("hostOnlyNetworks"):
        if str(network.lowerIP).startswith(NETWORK):
            return str(network.networkName)
    created = client.call("createHostOnlyNetwork", NAME)
    created.networkMask, created.lowerIP, created.upperIP, created.enabled = MASK, FIRST, LAST, True
    return str(created.networkName)


def _interface(client: "VirtualBox") -> str:
    """Return the interface of other hosts, with a DHCP server."""
    kind = client.pyvbox.library.HostNetworkInterfaceType.host_only
    known = client.root.host.find_host_network_interfaces_of_type(kind)
    interface = next((entry for entry in known if str(entry.ip_address).startswith(NETWORK)), None)
    if interface is None:
        interface, progress = client.root.host.create_host_only_network_interface()
        wait_for_progress(progress, "the host-only network", CREATE_S)
        interface.enable_static_ip_config(HOST, MASK)
    server = _server(client, str(interface.network_name))
    server.set_configuration(SERVER, MASK, FIRST, LAST)
    server.enabled = True
    return str(interface.name)


def _server(client: "VirtualBox", network: str) -> Any:
    try:
        return client.root.find_dhcp_server_by_network_name(network)
    except foreign_errors() as error:
        if error_code(error) != NOT_FOUND:
            raise VirtualBoxError(error_code(error), str(error)) from error
        return client.root.create_dhcp_server(network)
