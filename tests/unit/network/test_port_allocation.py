"""Free addresses and ports, determined with real sockets."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from b2d.errors import B2dError, HypervisorError
from b2d.network import port_allocation
from tests.support.fake_machine import ADDRESS

PORT = 23000


@contextmanager
def listening(where: str, port: int = PORT) -> Iterator[socket.socket]:
    with socket.create_server((where, port)) as server:
        yield server


def test_a_port_is_free_unless_somebody_listens_there() -> None:
    assert port_allocation.is_free(ADDRESS, PORT)
    with listening(ADDRESS):
        assert not port_allocation.is_free(ADDRESS, PORT)
        assert port_allocation.is_free(ADDRESS, PORT + 1)
        assert port_allocation.is_free("127.77.255.254", PORT)
    assert port_allocation.is_free(ADDRESS, PORT)


def test_who_listens_on_every_address_listens_on_this_one_too() -> None:
    with listening("0.0.0.0"):
        assert not port_allocation.is_free(ADDRESS, PORT)


def test_a_socket_that_is_bound_and_does_not_listen_yet_has_its_port() -> None:
    with socket.socket() as bound:
        bound.bind((ADDRESS, PORT))
        assert not port_allocation.is_free(ADDRESS, PORT)


def test_a_machine_whose_ports_are_taken_is_refused_with_the_port() -> None:
    port_allocation.require_free(ADDRESS, (PORT, PORT + 1))
    with listening(ADDRESS, PORT + 1), pytest.raises(HypervisorError) as caught:
        port_allocation.require_free(ADDRESS, (PORT, PORT + 1))
    assert caught.value.message == f"port {PORT + 1} of {ADDRESS} is used by another program"


def test_a_port_whose_last_connection_just_ended_is_free() -> None:
    with listening(ADDRESS) as server, socket.create_connection((ADDRESS, PORT)) as client:
        connection, _ = server.accept()
        connection.close()  # the side that closes first waits: TIME_WAIT is at the server's port
        assert client.recv(1) == b""
    with socket.socket() as plain, pytest.raises(OSError) as caught:
        plain.bind((ADDRESS, PORT))
    assert caught.value.errno == errno.EADDRINUSE
    assert port_allocation.is_free(ADDRESS, PORT)


def test_a_lease_is_what_was_wanted_or_the_next_that_is_free() -> None:
    assert port_allocation.reserve_ports(ADDRESS, PORT) == PORT
    with listening(ADDRESS), listening(ADDRESS, PORT + 1):
        assert port_allocation.reserve_ports(ADDRESS, PORT) == PORT + 2


def test_a_lease_leaves_what_is_to_be_avoided() -> None:
    assert port_allocation.reserve_ports(ADDRESS, PORT, {PORT, PORT + 1}) == PORT + 2
    with listening(ADDRESS, PORT + 2):
        assert port_allocation.reserve_ports(ADDRESS, PORT, {PORT, PORT + 1}) == PORT + 3


def test_there_is_no_port_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert port_allocation.reserve_ports(ADDRESS, 65535) == 65535
    with listening(ADDRESS, 65535), pytest.raises(B2dError, match="in use") as caught:
        port_allocation.reserve_ports(ADDRESS, 65535)
    assert caught.value.hint
    with pytest.raises(B2dError, match="used by other machines"):
        port_allocation.reserve_ports(ADDRESS, 65535, {65535})


def test_an_address_that_this_host_has_not_is_told() -> None:
    with pytest.raises(B2dError, match="Cannot assign"):
        port_allocation.reserve_ports("192.0.2.1", PORT)


def test_the_first_machine_gets_the_first_address_and_the_next_one_the_next() -> None:
    first = port_allocation.pick_address([], [PORT])
    assert first == "127.0.59.103"
    assert port_allocation.pick_address({first}, [PORT]) == "127.0.59.104"


def test_an_address_where_one_of_the_ports_is_taken_is_passed_over() -> None:
    with listening("127.0.59.103", PORT + 1):
        assert port_allocation.pick_address([], [PORT, PORT + 1]) == "127.0.59.104"


def test_a_port_that_is_taken_everywhere_does_not_keep_a_machine_from_its_address() -> None:
    with listening("0.0.0.0"):
        assert port_allocation.pick_address({"127.0.59.103"}, [PORT]) == "127.0.59.104"


def test_addresses_come_to_an_end() -> None:
    every = {f"127.0.59.{last}" for last in range(103, 255)}
    assert port_allocation.pick_address(every - {"127.0.59.254"}, [PORT]) == "127.0.59.254"
    with pytest.raises(B2dError) as caught:
        port_allocation.pick_address(every, [PORT])
    assert caught.value.hint == "b2d list"


def test_macos_has_one_loopback_address_for_all() -> None:
    assert port_allocation.pick_address({"127.0.0.1"}, [PORT], platform="darwin") == "127.0.0.1"
