"""Forwards follow Docker's events, whatever happens to Docker, a port or the machine."""

import json
import queue
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from b2d.docker.client import DockerApi
from b2d.errors import HypervisorError
from b2d.host.polling import wait_until
from b2d.host_agent.port_publisher import ROUNDS_A_S, EventLoop, PortForwarder, RetrySchedule
from b2d.models import Forward
from tests.support.fakes import FakeDriver, a_spec
from tests.unit.docker.test_published_ports import container, port

HERE = "127.0.0.1"
NEVER = 666
SOON_S = 0.5  # the documented delay


class Hypervisor(FakeDriver):
    """A driver that cannot forward the ports in `taken`."""

    def __init__(self) -> None:
        super().__init__(a_spec())
        self.has: set[Forward] = set()
        self.taken: set[Forward] = set()

    def forwards(self) -> list[Forward]:
        return sorted(self.has)

    def forward_obstacle(self, forward: Forward) -> str:
        return "never" if forward.port == NEVER else ""

    def add_forward(self, forward: Forward) -> None:
        if forward in self.taken:
            raise HypervisorError(f"port {forward.port} is taken")
        self.has.add(forward)

    def remove_forward(self, forward: Forward) -> None:
        self.has.remove(forward)


class Docker:
    """A Docker with scripted containers; readers of its events are notified of changes."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self.listeners: list[queue.Queue[bytes]] = []
        self._server = ThreadingHTTPServer((HERE, 0), self._handler())
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def set_containers(self, *containers: dict[str, Any]) -> None:
        self.listed = list(containers)
        for listener in self.listeners:
            listener.put(b'{"status":"start"}\n')

    def hang_up(self) -> None:
        for listener in self.listeners:
            listener.put(b"")

    def close(self) -> None:
        self.hang_up()
        self._server.shutdown()
        self._server.server_close()

    def _handler(docker) -> type[BaseHTTPRequestHandler]:  # noqa: N805  it is the other object in there
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                if not self.path.startswith("/events"):
                    self.wfile.write(json.dumps(docker.listed).encode())
                    return
                self.wfile.flush()
                mine: queue.Queue[bytes] = queue.Queue()
                docker.listeners.append(mine)
                while event := mine.get():
                    self.wfile.write(event)
                docker.listeners.remove(mine)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def docker() -> Iterator[Docker]:
    fake = Docker()
    yield fake
    fake.close()


@pytest.fixture
def hypervisor(docker: Docker) -> Iterator[Hypervisor]:
    """Run a publisher for the machine until the test ends."""
    fake, ended = Hypervisor(), threading.Event()
    engine = DockerApi(HERE, docker.port, None)
    publisher = EventLoop(engine, PortForwarder(fake, engine).reconcile, lambda: not ended.is_set())
    thread = threading.Thread(target=publisher.run)
    fake.has.add(Forward("tcp", HERE, 9))  # left by a killed publisher
    thread.start()
    wait_until(lambda: bool(docker.listeners) and not fake.has, condition="the publisher to listen", timeout_s=5)
    yield fake
    ended.set()
    docker.hang_up()
    thread.join(10)
    assert not thread.is_alive()


def wait_for_forwards(hypervisor: Hypervisor, *wanted: Forward, soon_s: float = SOON_S) -> None:
    wait_until(lambda: hypervisor.has == set(wanted), condition=f"{wanted}", timeout_s=soon_s, interval_s=0.01)


WEB, DNS = Forward("tcp", HERE, 8080), Forward("udp", HERE, 23053)


def test_a_published_port_is_forwarded_until_it_is_removed(docker: Docker, hypervisor: Hypervisor) -> None:
    docker.set_containers(
        container("web", port(80, 8080), port(81, NEVER)), container("dns", port(53, 23053, protocol="udp"))
    )
    wait_for_forwards(hypervisor, WEB, DNS)
    docker.set_containers(container("dns", port(53, 23053, protocol="udp")))
    wait_for_forwards(hypervisor, DNS)
    docker.set_containers()
    wait_for_forwards(hypervisor)


def test_a_port_published_on_loopback_is_forwarded_to_the_loopback_of_the_guest(
    docker: Docker, hypervisor: Hypervisor
) -> None:
    docker.set_containers(container("db", port(5432, 5432, HERE)))
    wait_for_forwards(hypervisor, Forward("tcp", HERE, 5432, inward=True))


def test_a_port_in_use_delays_no_other_and_is_forwarded_when_free(docker: Docker, hypervisor: Hypervisor) -> None:
    hypervisor.taken.add(WEB)
    docker.set_containers(container("web", port(80, 8080)), container("dns", port(53, 23053, protocol="udp")))
    wait_for_forwards(hypervisor, DNS)
    hypervisor.taken.clear()
    wait_for_forwards(hypervisor, DNS, WEB, soon_s=3)


def test_a_restarted_docker_is_followed_again(docker: Docker, hypervisor: Hypervisor) -> None:
    docker.set_containers(container("web", port(80, 8080)))
    wait_for_forwards(hypervisor, WEB)
    docker.listed = []
    docker.hang_up()
    wait_for_forwards(hypervisor, soon_s=5)
    docker.set_containers(container("web", port(80, 8080)))
    wait_for_forwards(hypervisor, WEB)


def test_many_ports_in_a_row_leave_no_forwards(docker: Docker, hypervisor: Hypervisor) -> None:
    for number in range(200):
        docker.set_containers(container("web", port(80, 10000 + number)))
    wait_for_forwards(hypervisor, Forward("tcp", HERE, 10199), soon_s=5)
    docker.set_containers()
    wait_for_forwards(hypervisor)


def test_without_docker_the_loop_ends_with_the_machine() -> None:
    with socket.create_server((HERE, 0)) as nobody:
        free = nobody.getsockname()[1]
    left = [True, True, False]
    engine = DockerApi(HERE, free, None)
    EventLoop(engine, PortForwarder(Hypervisor(), engine).reconcile, lambda: bool(left) and left.pop(0)).run()
    assert not left


def test_a_flood_of_events_is_rate_limited() -> None:
    """A burst is handled at once."""
    now, rounds = 0.0, RetrySchedule(0.0)
    waits = []
    for _ in range(100):
        waits.append(rounds.wait_s(now))
        now += waits[-1] + 0.01
    assert set(waits[:20]) == {0.0}
    assert 75 / ROUNDS_A_S < now < 85 / ROUNDS_A_S
    assert rounds.wait_s(now + 60) == 0
