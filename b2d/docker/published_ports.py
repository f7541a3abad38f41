"""The ports that containers publish, and the ports of this host that are forwarded to them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from b2d.formats import numbers
from b2d.models import Forward
from b2d.network.port_allocation import LOOPBACK

PORT_LIMIT = 250  # publications of a machine: each takes two of the hypervisor's file descriptors, which may have 1024
NAME_LIMIT = 255  # characters of a container's name
PROTOCOLS = ("tcp", "udp", "sctp")
OVER_LIMIT = f"not forwarded: beyond the first {PORT_LIMIT} ports"
OPEN, COMING = "open", "pending"
EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True, slots=True)
class Publication:
    """A port of a container that is published with `docker run -p`."""

    container: str
    protocol: str
    inside: int  # the container's own port
    address: str  # as requested
    port: int


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A publication's address on this host, and its state: OPEN, or the reason why it is not."""

    container: str
    protocol: str
    inside: int
    address: str
    port: int
    state: str


def parse_publications(containers: Iterable[dict[str, Any]]) -> list[Publication]:
    """Parse the publications in Docker's /containers/json; `::` beside `0.0.0.0` is the same publication.

    Invalid entries are skipped: the list comes from the guest.
    """
    published: dict[tuple[str, str, int], Publication] = {}
    for container in containers:
        ports = container.get("Ports")
        for port in ports if isinstance(ports, list) else ():
            if isinstance(port, dict) and (item := _publication(_name(container), port)) is not None:
                published[item.protocol, item.address, item.port] = item
    return sorted(published.values(), key=lambda item: (item.container, item.port, item.protocol, item.address))


def _name(container: dict[str, Any]) -> str:
    names = container.get("Names")
    name = names[0] if isinstance(names, list) and names else container.get("Id", "")
    return str(name)[:NAME_LIMIT].lstrip("/")


def _publication(name: str, port: dict[str, Any]) -> Publication | None:
    """Parse an entry of a container's ports; None when it is not published, or invalid."""
    protocol, requested = port.get("Type"), port.get("IP", "")
    try:
        if protocol not in PROTOCOLS or not isinstance(requested, str):
            return None
        address = "0.0.0.0" if requested in EVERYWHERE else str(ip_address(requested))
        return Publication(
            name, protocol, numbers.port(port.get("PrivatePort")), address, numbers.port(port.get("PublicPort"))
        )
    except ValueError:
        return None


def select_forwarded(publications: Sequence[Publication]) -> Sequence[Publication]:
    """Return the publications to forward: no more than the hypervisor can hold."""
    return publications[:PORT_LIMIT]


def forwards_for(publication: Publication, machine: str) -> list[Forward]:
    """Return this host's forwards for a publication, none for one on an address of the guest's.

    `machine` is the machine's own address.
    """
    protocol, port = publication.protocol, publication.port
    if protocol not in ("tcp", "udp"):
        return []
    if publication.address == LOOPBACK:
        return [Forward(protocol, LOOPBACK, port, inward=True)]
    if publication.address in EVERYWHERE:
        return [Forward(protocol, address, port) for address in dict.fromkeys((machine, LOOPBACK))]
    return []


def list_ports(
    publications: Sequence[Publication],
    machine: str,
    active: Collection[Forward],
    obstacle: Callable[[Forward], str],
) -> list[PublishedPort]:
    """Return the publications' addresses on this host, with their states.

    `machine` is the machine's own address, `active` the forwards that exist now; `obstacle` returns what occupies the
    port of a missing forward, "" when nothing does.
    """
    rows = []
    for number, item in enumerate(publications):
        wanted = forwards_for(item, machine)
        if not wanted:
            states = {item.address: "only in the guest"}
        elif number >= PORT_LIMIT:
            states = {wanted[0].address: OVER_LIMIT}
        else:
            states = {}
            for forward in wanted:
                states[forward.address] = OPEN if forward in active else obstacle(forward) or COMING
        for address, state in states.items():
            rows.append(PublishedPort(item.container, item.protocol, item.inside, address, item.port, state))
    return rows
