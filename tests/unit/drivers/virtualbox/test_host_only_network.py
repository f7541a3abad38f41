"""The second card's network is found or created by calls that the API has, through pyvbox; VirtualBox itself is a fake.

No computer of the tests has VirtualBox's network driver. The signatures are those of the type library of 7.2.22
(VirtualBox_XPCOM.xpt); pyvbox, which was made from 6.1, calls the same.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import virtualbox

from b2d.drivers.virtualbox.calls import NOT_FOUND
from b2d.drivers.virtualbox.client import VirtualBox
from b2d.drivers.virtualbox.hardware import no_network_card
from b2d.drivers.virtualbox.host_only_network import SecondCard, second_card

HOST_ONLY = 2  # HostNetworkInterfaceType_HostOnly
METHODS: dict[str, dict[str, str]] = {  # the types of their arguments
    "IVirtualBox": {"createHostOnlyNetwork": "s", "findDHCPServerByNetworkName": "s", "createDHCPServer": "s"},
    "IHost": {"createHostOnlyNetworkInterface": "", "findHostNetworkInterfacesOfType": "i"},
    "IHostNetworkInterface": {"enableStaticIPConfig": "ss"},
    "IDHCPServer": {"setConfiguration": "ssss"},
    "IHostOnlyNetwork": {},
}
WRITABLE: dict[str, dict[str, type]] = {
    "IDHCPServer": {"enabled": bool},
    "IHostOnlyNetwork": {"networkName": str, "enabled": bool, "networkMask": str, "lowerIP": str, "upperIP": str},
}
TYPES = {"s": str, "i": int}


class RefusedError(Exception):
    """An error as xpcom raises it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.errno, self.msg = code, text


class Fake:
    """An object of VirtualBox's API: its attributes, and methods that check their arguments."""

    interface: str
    members: dict[str, Any]

    def __init__(self, interface: str, **members: object) -> None:
        self.__dict__.update({"interface": interface, "members": members})

    def __getattr__(self, name: str) -> Any:
        if name not in self.members:
            raise AttributeError(name)
        member = self.members[name]
        if not callable(member):
            return member
        wanted = METHODS[self.interface][name]

        def call(*arguments: object) -> object:
            assert [type(argument) for argument in arguments] == [TYPES[letter] for letter in wanted], name
            return member(*arguments)

        return call

    def __setattr__(self, name: str, value: object) -> None:
        assert type(value) is WRITABLE[self.interface][name], name
        self.members[name] = value


class Service:
    """VirtualBox's service, with host-only interfaces, DHCP servers, and on macOS networks."""

    api = (7, 2)
    pyvbox = virtualbox

    def __init__(self) -> None:
        self.interfaces: list[Fake] = []
        self.servers: dict[str, Fake] = {}
        self.networks: list[Fake] = []
        self.fails_with = ""  # the reason for which no interface can be created
        host = Fake(
            "IHost",
            findHostNetworkInterfacesOfType=lambda kind: self.interfaces if kind == HOST_ONLY else [],
            createHostOnlyNetworkInterface=self._create_interface,
        )
        self.raw = Fake(
            "IVirtualBox",
            version="7.2.22",
            host=host,
            findDHCPServerByNetworkName=self._find_server,
            createDHCPServer=self._create_server,
            createHostOnlyNetwork=self._create_network,
        )
        self.root = virtualbox.library.IVirtualBox(self.raw)

    def array(self, name: str) -> list[Fake]:
        assert name == "hostOnlyNetworks"
        return self.networks

    def call(self, name: str, *arguments: object) -> Any:
        return getattr(self.raw, name)(*arguments)

    def add_interface(self, address: str) -> Fake:
        name = f"vboxnet{len(self.interfaces)}"
        interface = Fake(
            "IHostNetworkInterface", name=name, IPAddress=address, networkName=f"HostInterfaceNetworking-{name}"
        )
        interface.members["enableStaticIPConfig"] = lambda address, mask: interface.members.update(
            IPAddress=address, networkMask=mask
        )
        self.interfaces.append(interface)
        return interface

    def _create_interface(self) -> tuple[SimpleNamespace, Fake]:
        reason = SimpleNamespace(text=self.fails_with)
        progress = SimpleNamespace(completed=True, resultCode=-2147467259 if self.fails_with else 0, errorInfo=reason)
        return progress, self.add_interface("192.168.56.1")

    def _find_server(self, network: str) -> Fake:
        if network not in self.servers:
            raise RefusedError(NOT_FOUND - (1 << 32), "no server")
        return self.servers[network]

    def _create_server(self, network: str) -> Fake:
        server = Fake("IDHCPServer", enabled=False)
        server.members["setConfiguration"] = lambda *addresses: server.members.update(addresses=addresses)
        return self.servers.setdefault(network, server)

    def _create_network(self, name: str) -> Fake:
        self.networks.append(Fake("IHostOnlyNetwork", networkName=name, lowerIP="", enabled=False))
        return self.networks[-1]


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "vboxnetctl"
    path.touch()
    return path


def card_of(service: Service, platform: str, device: Path) -> SecondCard:
    return second_card(cast(VirtualBox, service), platform, device)


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_an_interface_with_the_address_of_2014_is_created_once(service: Service, device: Path, platform: str) -> None:
    service.add_interface("192.168.56.1")  # the user's own
    first = card_of(service, platform, device)
    assert (first.attribute, first.kind, first.name, first.reason) == ("hostOnlyInterface", "HostOnly", "vboxnet1", "")
    created = service.interfaces[1].members
    assert (created["IPAddress"], created["networkMask"]) == ("192.168.59.3", "255.255.255.0")
    (server,) = service.servers.values()
    assert server.members["addresses"] == ("192.168.59.99", "255.255.255.0", "192.168.59.103", "192.168.59.254")
    assert server.members["enabled"] is True
    assert card_of(service, platform, device) == first
    assert (len(service.interfaces), len(service.servers)) == (2, 1)


def test_the_user_s_own_interface_is_unchanged(service: Service, device: Path) -> None:
    own = service.add_interface("192.168.56.1")
    before = dict(own.members)
    card_of(service, "linux", device)
    assert own.members == before


@pytest.mark.parametrize("reason", ["VirtualBox is not permitted to use this range", "the driver is not loaded"])
def test_a_network_that_cannot_be_created_leaves_the_machine_without_it(
    service: Service, device: Path, reason: str
) -> None:
    service.fails_with = reason
    card = card_of(service, "linux", device)
    assert card.reason == f"VirtualBox: {reason}"
    assert card.steps() == no_network_card(1)


def test_macos_has_networks_of_the_new_kind(service: Service, device: Path) -> None:
    first = card_of(service, "darwin", device)
    assert (first.attribute, first.kind, first.name) == ("hostOnlyNetwork", "HostOnlyNetwork", "b2d")
    (network,) = service.networks
    assert network.members == {
        "networkName": "b2d",
        "networkMask": "255.255.255.0",
        "lowerIP": "192.168.59.103",
        "upperIP": "192.168.59.254",
        "enabled": True,
    }
    assert card_of(service, "darwin", device) == first
    assert (len(service.networks), service.interfaces) == (1, [])


def test_macos_with_virtualbox_6_has_interfaces(service: Service, device: Path) -> None:
    service.api = (6, 1)
    assert card_of(service, "darwin", device).attribute == "hostOnlyInterface"


def test_without_its_driver_virtualbox_is_not_asked(service: Service, tmp_path: Path) -> None:
    card = card_of(service, "linux", tmp_path / "vboxnetctl")
    assert "modprobe vboxnetadp" in card.reason
    assert service.interfaces == []


def test_an_error_of_the_api_is_the_reason(service: Service, device: Path) -> None:
    def refuse(kind: int) -> list[Fake]:
        raise RefusedError(-2147467259, "no such luck")

    service.raw.host.members["findHostNetworkInterfacesOfType"] = refuse
    assert card_of(service, "linux", device).reason == "VirtualBox: no such luck"
