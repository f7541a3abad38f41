"""Containers and other users of this host cannot reach a machine, however its Docker listens (H1, M1, M4, L6)."""

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product

import paramiko
import pytest

from b2d.machine_store.store import MachineStore
from tests.e2e.conftest import NAME, Person, alone

pytestmark = pytest.mark.qemu

OTHER = 12345  # a uid without a user
PORTS = (22, 2375, 2376)
END = "-- next --"  # after the output of each connection
SERVER = """
import socket
with socket.create_server(("127.0.0.1", 8000)) as listener:
    print("listens", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"this host")
        connection.close()
"""


@pytest.fixture(scope="module")
def open_machine(up: Person) -> Iterator[Person]:
    """Yield a second machine with everything as open as possible."""
    options = ("--no-tls", "--vm", "plain", "--ssh-password", "--password", "my own words")
    try:
        up.check_output("up", *options)
        yield replace(up, environment=up.environment | {"B2D_VM": "plain"})
    finally:
        up.b2d("delete", "--yes", "--vm", "plain")


def connect_from_container(person: Person, network: str, *targets: tuple[str, int]) -> list[bytes]:
    """Connect from a container to each address and port, and return what was received or reported."""
    script = "\n".join(f"nc -w 5 {address} {port} 2>&1; echo '{END}'" for address, port in targets)
    completed = person.run_docker("run", "--rm", "--network", network, "hello", "sh", "-c", script)
    assert completed.returncode == 0, completed.stderr
    results = completed.stdout.split(f"{END}\n".encode())[:-1]
    assert len(results) == len(targets)
    return results


def assert_unreachable(person: Person, network: str, *addresses: str) -> None:
    """Assert that a container reaches none of the machine's ports at any of its addresses."""
    targets = list(product(addresses, PORTS))
    for target, result in zip(targets, connect_from_container(person, network, *targets), strict=True):
        assert b"refused" in result or b"timed out" in result, (target, result)


@pytest.mark.parametrize(
    ("network", "addresses"),
    [("bridge", ("172.17.0.1", "10.0.2.15", "10.0.2.127")), ("host", ("127.0.0.1", "10.0.2.15"))],
)
def test_a_container_reaches_neither_ssh_nor_docker_of_its_machine(
    up: Person, network: str, addresses: Sequence[str]
) -> None:
    """The machine has TLS."""
    assert_unreachable(up, network, *addresses)


def test_a_container_does_not_reach_them_by_ipv6(up: Person) -> None:
    """The addresses are the bridge's and, with the host network, the loopback's."""
    up.docker("network", "create", "--ipv6", "--subnet", "fd00:dead::/64", "six")
    try:
        assert_unreachable(up, "six", "fd00:dead::1", "fe80::1%eth0")
        assert_unreachable(up, "host", "::1")
    finally:
        up.docker("network", "rm", "six")


@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_container_does_not_reach_them_without_tls_and_with_a_password(open_machine: Person, network: str) -> None:
    open_machine.create_hello_image()
    assert_unreachable(open_machine, network, "172.17.0.1")


def as_other_user(person: Person, name: str, port: int) -> bytes:
    spec = MachineStore(person.home).read(name)
    assert spec is not None
    script = f"""
import socket
connection = socket.create_connection(("{spec.address}", {port}), 10)
connection.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
connection.settimeout(10)
print(connection.recv(100))
"""
    command = ["/usr/bin/python3", "-c", script]
    completed = subprocess.run(command, user=OTHER, group=OTHER, extra_groups=[], capture_output=True, check=False)
    return completed.stdout


def test_another_user_of_this_host_reaches_neither(open_machine: Person) -> None:
    spec = MachineStore(open_machine.home).read("plain")
    assert spec is not None
    for port in (spec.ssh_port, spec.docker_port):
        assert b"SSH" not in as_other_user(open_machine, "plain", port)
        assert b"OK" not in as_other_user(open_machine, "plain", port)
    assert b"200" not in as_other_user(open_machine, "plain", spec.engine_port)


def test_idle_connections_of_other_users_do_not_block_the_owner(open_machine: Person) -> None:
    spec = MachineStore(open_machine.home).read("plain")
    assert spec is not None
    script = f"""
import socket, sys
held = [socket.create_connection(("{spec.address}", {spec.ssh_port}), 10) for _ in range(50)]
held += [socket.create_connection(("{spec.address}", {spec.engine_port}), 10) for _ in range(50)]
print("held", flush=True)
sys.stdin.read()
"""
    stranger = subprocess.Popen(
        ["/usr/bin/python3", "-c", script], user=OTHER, group=OTHER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with stranger:
        assert stranger.stdout is not None and stranger.stdin is not None
        assert stranger.stdout.readline() == b"held\n"
        assert open_machine.check_output("ssh", "id", "-un") == "docker\n"
        assert open_machine.docker("ps", "-q") == ""
        stranger.stdin.close()


def test_only_the_configured_password_is_accepted(open_machine: Person) -> None:
    spec = MachineStore(open_machine.home).read("plain")
    assert spec is not None
    for password, counts in (("tcuser", False), ("my own words", True)):
        connection = socket.create_connection((spec.address, spec.ssh_port), 30)
        with paramiko.Transport(connection) as transport:
            transport.banner_timeout = transport.auth_timeout = 60
            transport.start_client(timeout=60)
            if counts:
                transport.auth_password("docker", password)
            else:
                with pytest.raises(paramiko.AuthenticationException):
                    transport.auth_password("docker", password)
            assert transport.is_authenticated() is counts
    assert "password" not in open_machine.check_output("ssh", "sudo ls /run/b2d/seed").split()


def test_traffic_that_leaves_through_the_hypervisor_does_not_return_to_the_machine(up: Person) -> None:
    """On hosts with one loopback address, the machine's ports are where containers reach the host."""
    with ExitStack() as opened:
        person = opened.enter_context(alone(up, "near"))
        server = subprocess.Popen([*person.within, sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
        opened.callback(server.wait)
        opened.callback(server.kill)
        assert server.stdout is not None
        assert server.stdout.readline() == b"listens\n"
        person.check_output("up", "--no-tls", "--address", "127.0.0.1")
        person.create_hello_image()
        host, *own = connect_from_container(person, "bridge", *(("10.0.2.2", port) for port in (8000, 2022, 2375)))
        assert b"this host" in host
        assert b"SSH" not in b"".join(own)
        request = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = person.run_docker("run", "-i", "--rm", "hello", "nc", "-w", "5", "10.0.2.2", "2375", stdin=request)
        assert b"200" not in answer.stdout
        person.environment["B2D_HOST_LOOPBACK"] = "no"
        person.check_output("restart")
        for network in ("bridge", "host"):
            assert b"this host" not in connect_from_container(person, network, ("10.0.2.2", 8000))[0]
        person.docker("run", "-d", "--name", "web", "-p", "8001:80", "hello", "httpd", "-f", "-p", "80")
        assert (
            person.sh(
                "curl -s -o /dev/null -w '%{http_code}' --retry 5 --retry-all-errors http://127.0.0.1:8001/"
            ).stdout
            == b"404"
        )


def test_the_default_machine_still_runs(up: Person) -> None:
    assert up.check_output("status") == "running\n"
    assert up.paths.folder.name == NAME
