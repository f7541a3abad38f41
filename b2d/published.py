"""What containers publish, and behind which ports of this host that is to be."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from b2d.model import Forward

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
class Place:
    """Where a publication is on this host, and whether it is there: the word OPEN, else why not."""

    container: str
    protocol: str
    inside: int
    address: str
    port: int
    state: str


def publications(containers: Iterable[dict[str, Any]]) -> list[Publication]:
    """All that are there, as Docker's /containers/json lists them; `::` beside `0.0.0.0` is the same wish."""
    found: dict[tuple[str, str, int], Publication] = {}
    for container in containers:
        name = str((container.get("Names") or [container.get("Id", "")])[0]).lstrip("/")
        for port in container.get("Ports") or []:
            if not port.get("PublicPort"):
                continue
            asked = str(port.get("IP", ""))
            address = "0.0.0.0" if asked in EVERYWHERE else asked
            one = Publication(name, str(port["Type"]), int(port["PrivatePort"]), address, int(port["PublicPort"]))
            found[one.protocol, one.address, one.port] = one
    return sorted(found.values(), key=lambda one: (one.container, one.port, one.protocol))


def forwards(one: Publication, machine: str) -> list[Forward]:
    """The ports of this host for it, `machine` being the machine's own address; none for an address of the guest's."""
    if one.protocol not in ("tcp", "udp"):
        return []
    if one.address == LOOPBACK:
        return [Forward(one.protocol, LOOPBACK, one.port, inward=True)]
    if one.address in EVERYWHERE:
        return [Forward(one.protocol, address, one.port) for address in dict.fromkeys((machine, LOOPBACK))]
    return []


def places(
    found: Iterable[Publication], machine: str, has: Collection[Forward], obstacle: Callable[[Forward], str]
) -> list[Place]:
    """Where each of them is, `has` being what leads into the machine now; `obstacle` tells what has a port instead."""
    rows = []
    for one in found:
        wanted = forwards(one, machine)
        states = {forward: OPEN if forward in has else obstacle(forward) or COMING for forward in wanted}
        for forward, state in states.items():
            rows.append(Place(one.container, one.protocol, one.inside, forward.address, one.port, state))
        if not wanted:
            rows.append(Place(one.container, one.protocol, one.inside, one.address, one.port, "in the guest alone"))
    return rows
