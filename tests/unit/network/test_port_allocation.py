"""Free addresses and ports, determined with real sockets."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from b2d.errors import B2dError, HypervisorError
from b2d.network import port_allocation
from tests.support.fake_machine import ADDRESS

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")  # tests that run beside these use the same addresses
PORT = 23000 + 10 * int(WORKER.removeprefix("gw"))


@contextmanager
def listening(where: str, port: int = PORT) -> Iterator[socket.socket]:
    with socket.create_server((where, port)) as server:
        yield server


def test_a_port_is_free_unless_a_program_listens_on_it() -> None:
    assert port_allocation.is_free(ADDRESS, PORT)
    with listening(ADDRESS):
        assert not port_allocation.is_free(ADDRESS, PORT)
        assert port_allocation.is_free(ADDRESS, PORT + 1)
        assert port_allocation.is_free("127.77.255.254", PORT)
    assert port_allocation.is_free(ADDRESS, PORT)


def test_a_port_in_use_on_all_addresses_is_in_use_on_each() -> None:
    with listening("0.0.0.0"):
        assert not port_allocation.is_free(ADDRESS, PORT)


def test_a_bound_socket_that_does_not_listen_uses_its_port() -> None:
    with socket.socket() as bound:
        bound.bind((ADDRESS, PORT))
        assert not port_allocation.is_free(ADDRESS, PORT)


def test_a_port_in_use_is_refused_with_its_number() -> None:
    port_allocation.require_free(ADDRESS, (PORT, PORT + 1))
    with listening(ADDRESS, PORT + 1), pytest.raises(HypervisorError) as caught:
        port_allocation.require_free(ADDRESS, (PORT, PORT + 1))
    assert caught.value.message == f"port {PORT + 1} of {ADDRESS} is used by another program"


def test_a_port_in_time_wait_is_free() -> None:
    with listening(ADDRESS) as server, socket.create_connection((ADDRESS, PORT)) as client:
        connection, _ = server.accept()
        connection.close()  # the side that closes first waits: TIME_WAIT is at the server's port
        assert client.recv(1) == b""
    with socket.socket() as plain, pytest.raises(OSError) as caught:
        plain.bind((ADDRESS, PORT))
    assert caught.value.errno == errno.EADDRINUSE
    assert port_allocation.is_free(ADDRESS, PORT)


def test_a_reserved_port_is_the_requested_one_or_the_next_free_one() -> None:
    assert port_allocation.reserve_ports(ADDRESS, PORT) == PORT
    with listening(ADDRESS), listening(ADDRESS, PORT + 1):
        assert port_allocation.reserve_ports(ADDRESS, PORT) == PORT + 2


def test_excluded_ports_are_not_reserved() -> None:
    assert port_allocation.reserve_ports(ADDRESS, PORT, {PORT, PORT + 1}) == PORT + 2
    with listening(ADDRESS, PORT + 2):
        assert port_allocation.reserve_ports(ADDRESS, PORT, {PORT, PORT + 1}) == PORT + 3


def test_there_is_no_port_above_65535(monkeypatch: pytest.MonkeyPatch) -> None:
    assert port_allocation.reserve_ports(ADDRESS, 65535) == 65535
    with listening(ADDRESS, 65535), pytest.raises(B2dError, match="in use") as caught:
        port_allocation.reserve_ports(ADDRESS, 65535)
    assert caught.value.hint
    with pytest.raises(B2dError, match="used by other machines"):
        port_allocation.reserve_ports(ADDRESS, 65535, {65535})


def test_an_address_that_is_not_of_this_host_is_reported() -> None:
    with pytest.raises(B2dError, match="Cannot assign"):
        port_allocation.reserve_ports("192.0.2.1", PORT)


def test_machines_get_consecutive_addresses() -> None:
    first = port_allocation.pick_address([], [PORT])
    assert first == "127.0.59.103"
    assert port_allocation.pick_address({first}, [PORT]) == "127.0.59.104"


def test_an_address_with_a_port_in_use_is_skipped() -> None:
    with listening("127.0.59.103", PORT + 1):
        assert port_allocation.pick_address([], [PORT, PORT + 1]) == "127.0.59.104"


def test_a_port_in_use_on_all_addresses_does_not_prevent_an_address() -> None:
    with listening("0.0.0.0"):
        assert port_allocation.pick_address({"127.0.59.103"}, [PORT]) == "127.0.59.104"


def test_addresses_are_limited() -> None:
    every = {f"127.0.59.{last}" for last in range(103, 255)}
    assert port_allocation.pick_address(every - {"127.0.59.254"}, [PORT]) == "127.0.59.254"
    with pytest.raises(B2dError) as caught:
        port_allocation.pick_address(every, [PORT])
    assert caught.value.hint == "b2d list"


def test_macos_has_one_loopback_address_for_all() -> None:
    assert port_allocation.pick_address({"127.0.0.1"}, [PORT], platform="darwin") == "127.0.0.1"
