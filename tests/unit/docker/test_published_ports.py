"""Published ports are read from Docker's list; their addresses on this host follow from the requested ones."""

from typing import Any

import pytest

from b2d.docker.published_ports import (
    COMING,
    OPEN,
    Publication,
    PublishedPort,
    forwards_for,
    list_ports,
    parse_publications,
)
from b2d.models import Forward

MACHINE = "127.0.59.103"
WEB = Publication("web", "tcp", 80, "0.0.0.0", 8080)


def container(name: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"Id": "0123", "Names": [f"/{name}"], "Ports": list(ports)}


def port(inside: int, outside: int = 0, address: str = "0.0.0.0", protocol: str = "tcp") -> dict[str, Any]:
    document: dict[str, Any] = {"PrivatePort": inside, "Type": protocol}
    return document | ({"PublicPort": outside, "IP": address} if outside else {})


def test_a_port_published_for_ipv4_and_ipv6_is_one_publication() -> None:
    assert parse_publications([container("web", port(80, 8080), port(80, 8080, "::"))]) == [WEB]


def test_an_exposed_port_is_not_published() -> None:
    assert parse_publications([container("web", port(80)), {"Id": "no names"}]) == []


@pytest.mark.parametrize(
    ("publication", "forwards"),
    [
        (WEB, [Forward("tcp", MACHINE, 8080), Forward("tcp", "127.0.0.1", 8080)]),
        (
            Publication("dns", "udp", 53, "0.0.0.0", 53),
            [Forward("udp", MACHINE, 53), Forward("udp", "127.0.0.1", 53)],
        ),
        (Publication("db", "tcp", 5432, "127.0.0.1", 5432), [Forward("tcp", "127.0.0.1", 5432, inward=True)]),
        (Publication("inner", "tcp", 80, "10.0.2.15", 80), []),
        (Publication("inner", "tcp", 80, "127.0.0.2", 80), []),
        (Publication("old", "sctp", 80, "0.0.0.0", 80), []),
    ],
)
def test_a_forward_listens_where_it_was_published(publication: Publication, forwards: list[Forward]) -> None:
    assert forwards_for(publication, MACHINE) == forwards


def test_a_machine_without_a_private_address_has_each_port_once() -> None:
    assert forwards_for(WEB, "127.0.0.1") == [Forward("tcp", "127.0.0.1", 8080)]


def test_each_port_is_listed_with_its_obstacle() -> None:
    taken = {Forward("tcp", "127.0.0.1", 8080): "another program has this port"}
    inner = Publication("inner", "tcp", 80, "10.0.2.15", 80)
    ports = list_ports([WEB, inner], MACHINE, {Forward("tcp", MACHINE, 8080)}, lambda forward: taken.get(forward, ""))
    assert ports == [
        PublishedPort("web", "tcp", 80, MACHINE, 8080, OPEN),
        PublishedPort("web", "tcp", 80, "127.0.0.1", 8080, "another program has this port"),
        PublishedPort("inner", "tcp", 80, "10.0.2.15", 80, "only in the guest"),
    ]
    assert {forward.state for forward in list_ports([WEB], MACHINE, (), lambda _: "")} == {COMING}
