"""With host_loopback=no a container in the guest's network namespace cannot bypass the guest's firewall."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Person, alone

pytestmark = pytest.mark.qemu

PORT = "8000"
SERVER = f"""
import socket, threading
def answers(listener):
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"this host")
        connection.close()
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", {PORT}))
listener = socket.create_server(("::1", {PORT}), family=socket.AF_INET6)
threading.Thread(target=answers, args=(listener,), daemon=True).start()
print("listens", flush=True)
while True:
    print(datagrams.recv(100).decode(), flush=True)
"""
WAYS = (("10.0.2.2",), ("255.255.255.255",), ("127.0.0.1", "eth0"))
ENOUGH_S = 10.0


@pytest.fixture
def apart(person: Person) -> Iterator[Person]:
    with alone(person, "closed") as someone:
        yield someone


@contextmanager
def services(person: Person) -> Iterator["subprocess.Popen[bytes]"]:
    """Listen on the host's loopback and report each received datagram."""
    with subprocess.Popen([*person.within, sys.executable, "-c", SERVER], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listens\n"
            yield server
        finally:
            server.kill()


def send_datagrams(person: Person, *way: str) -> None:
    """Send datagrams, without regard to errors: only their arrival matters."""
    person.run_docker("run", "--rm", "--network", "host", "away", "/away", way[0], PORT, *way[1:])


def received(server: "subprocess.Popen[bytes]") -> bytes:
    """End the listener and return all that it received."""
    server.terminate()
    return server.communicate(timeout=ENOUGH_S)[0]


def receive_in_container(person: Person) -> bytes:
    asks = ("run", "--rm", "--network", "host", "hello", "nc", "-w", "5", "fec0::2", PORT)
    return person.run_docker(*asks).stdout


def test_containers_cannot_bypass_the_firewall(apart: Person, tmp_path: Path) -> None:
    source = Path(__file__).with_name("away.c")
    subprocess.run(["gcc", "-static", "-o", tmp_path / "away", source], check=True)
    program = subprocess.run(["tar", "-cC", tmp_path, "away"], stdout=subprocess.PIPE, check=True).stdout
    with services(apart) as server:
        apart.check_output("up")
        apart.create_hello_image()
        apart.docker("import", "-", "away", stdin=program)
        assert receive_in_container(apart) == b"this host"
        for way in WAYS:
            send_datagrams(apart, *way)
        assert received(server) == b"away\n" * len(WAYS)
    with services(apart) as server:
        apart.environment["B2D_HOST_LOOPBACK"] = "no"
        apart.check_output("restart")
        assert receive_in_container(apart) == b""
        for way in WAYS:
            send_datagrams(apart, *way)
        assert received(server) == b""
