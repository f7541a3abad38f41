"""What containers publish, and behind which ports of this host that is to be."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from b2d.formats import numbers
from b2d.models import Forward

PORT_LIMIT = 250  # publications of one machine: each takes two of the hypervisor's files, of which it may have 1024
NAME_LIMIT = 255  # characters of a container's name
PROTOCOLS = ("tcp", "udp", "sctp")
HOST_PREFIX = f"not led: beyond the first {PORT_LIMIT} ports"
OPEN, COMING = "open", "on its way"
EVERYWHERE = ("0.0.0.0", "::", "")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Publication:
    """One port of a container that was asked for with `docker run -p`."""

    container: str
    protocol: str
    inside: int  # the container's own port
    address: str  # that was asked for
    port: int


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """Where a publication is on this host, and whether it is there: the word OPEN, else why not."""

    container: str
    protocol: str
    inside: int
    address: str
    port: int
    state: str


def publications(containers: Iterable[dict[str, Any]]) -> list[Publication]:
    """All that are there, as Docker's /containers/json lists them; `::` beside `0.0.0.0` is the same wish.

    What Docker would not say so is passed over: the list is the guest's.
    """
    found: dict[tuple[str, str, int], Publication] = {}
    for container in containers:
        ports = container.get("Ports")
        for port in ports if isinstance(ports, list) else ():
            if isinstance(port, dict) and (one := _publication(_name(container), port)) is not None:
                found[one.protocol, one.address, one.port] = one
    return sorted(found.values(), key=lambda one: (one.container, one.port, one.protocol, one.address))


def _name(container: dict[str, Any]) -> str:
    names = container.get("Names")
    name = names[0] if isinstance(names, list) and names else container.get("Id", "")
    return str(name)[:NAME_LIMIT].lstrip("/")


def _publication(name: str, port: dict[str, Any]) -> Publication | None:
    """One entry of a container's ports; None for what is not published, or is none."""
    protocol, asked = port.get("Type"), port.get("IP", "")
    try:
        if protocol not in PROTOCOLS or not isinstance(asked, str):
            return None
        address = "0.0.0.0" if asked in EVERYWHERE else str(ip_address(asked))
        return Publication(
            name, protocol, numbers.port(port.get("PrivatePort")), address, numbers.port(port.get("PublicPort"))
        )
    except ValueError:
        return None


def is_forwarded(found: Sequence[Publication]) -> Sequence[Publication]:
    """Return those that lead out of the machine: no more than the hypervisor has room for."""
    return found[:PORT_LIMIT]


def forwards(one: Publication, machine: str) -> list[Forward]:
    """The ports of this host for it, `machine` being the machine's own address; none for an address of the guest's."""
    if one.protocol not in ("tcp", "udp"):
        return []
    if one.address == LOOPBACK:
        return [Forward(one.protocol, LOOPBACK, one.port, inward=True)]
    if one.address in EVERYWHERE:
        return [Forward(one.protocol, address, one.port) for address in dict.fromkeys((machine, LOOPBACK))]
    return []


def list_ports(
    found: Sequence[Publication], machine: str, has: Collection[Forward], obstacle: Callable[[Forward], str]
) -> list[PublishedPort]:
    """Where each of them is, `has` being what leads into the machine now; `obstacle` tells what has a port instead."""
    rows = []
    for number, one in enumerate(found):
        wanted = forwards(one, machine)
        if wanted and number >= PORT_LIMIT:
            rows.append(
                PublishedPort(one.container, one.protocol, one.inside, wanted[0].address, one.port, HOST_PREFIX)
            )
            continue
        states = {forward: OPEN if forward in has else obstacle(forward) or COMING for forward in wanted}
        for forward, state in states.items():
            rows.append(PublishedPort(one.container, one.protocol, one.inside, forward.address, one.port, state))
        if not wanted:
            rows.append(
                PublishedPort(one.container, one.protocol, one.inside, one.address, one.port, "in the guest alone")
            )
    return rows
