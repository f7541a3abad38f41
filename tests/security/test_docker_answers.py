"""Answers of a guest's Docker are bounded in size and time, and create no more than this host can use."""

import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from b2d.docker import client, published_ports
from b2d.docker.client import DockerApi, DockerUnavailableError
from b2d.docker.published_ports import OVER_LIMIT, PORT_LIMIT, list_ports, parse_publications
from b2d.guest import tls_certificates
from b2d.guest.readiness import engine, ping
from b2d.host_agent.port_publisher import REPORT_LIMIT, EventLoop, PortForwarder
from b2d.models import Forward
from b2d.paths import MachinePaths
from tests.integration.guest.test_readiness import server
from tests.integration.host_agent.test_port_publisher import Hypervisor
from tests.support.timing import not_waiting_for

HERE = "127.0.0.1"
MACHINE = "127.0.59.103"
HEAD = b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\n"
ROOM = 32 << 20  # bytes of memory that an answer may use, whatever a guest sends


def send_endlessly(head: bytes, piece: bytes, step_s: float = 0.0) -> Callable[[socket.socket], None]:
    """Return a Docker server that repeats the same data endlessly."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(head)
        for _ in count():
            connection.sendall(piece)
            time.sleep(step_s)

    return serve


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < ROOM
    finally:
        tracemalloc.stop()


ASKED: dict[str, Callable[[DockerApi], object]] = {
    "containers": lambda api: api.containers(5),
    "info": lambda api: engine(api, 5),
    "events": lambda api: list(api.changes(5)),
}


@pytest.mark.parametrize("question", list(ASKED))
@pytest.mark.parametrize("coding", ["plain", "chunked"])
def test_an_endless_response_counts_as_no_response(question: str, coding: str) -> None:
    chunk = b"x" * 65536
    head, piece = HEAD + b"\r\n", chunk
    if coding == "chunked":
        head, piece = HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + chunk + b"\r\n"
    with server(send_endlessly(head, piece)) as port, little_memory():
        if question == "info":
            assert engine(DockerApi(HERE, port, None), 5) is None
        else:
            with pytest.raises(DockerUnavailableError):
                ASKED[question](DockerApi(HERE, port, None))


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD + b"Content-Length: 1000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
    ],
    ids=["continue", "body", "header"],
)
def test_a_trickling_response_times_out(head: bytes, piece: bytes) -> None:
    with server(send_endlessly(head, piece, 0.01)) as port, not_waiting_for(20):
        with pytest.raises(DockerUnavailableError):
            DockerApi(HERE, port, None).containers(0.3)
        assert ping(DockerApi(HERE, port, None), 0.1) is None or head.startswith(HEAD)


def test_a_trickling_tls_handshake_times_out(tmp_path: Path) -> None:
    paths = MachinePaths(tmp_path)
    tls_certificates.ensure_certificates(paths, [], datetime.now(UTC))
    with server(send_endlessly(b"\x16\x03\x03\x40\x00", b"\x02", 0.01)) as port, not_waiting_for(20):
        assert ping(DockerApi(HERE, port, paths.certs), 0.3) is None


def answers(document: str) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(HEAD + b"\r\n" + document.encode())
        connection.close()

    return serve


@pytest.mark.parametrize("document", ["[" * 100_000, '{"a":' * 50_000, "7", "{}", '"x"', "9" * 5000])
def test_invalid_json_counts_as_no_response(document: str) -> None:
    with server(answers(document)) as port:
        with pytest.raises(DockerUnavailableError):
            DockerApi(HERE, port, None).containers(5)
        assert engine(DockerApi(HERE, port, None), 5) is None


@pytest.mark.parametrize(
    "port",
    [
        {"PrivatePort": 80, "PublicPort": 10**30, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 80, "PublicPort": 70000, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": -1, "PublicPort": 80, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 80, "PublicPort": "9" * 6000, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 80, "PublicPort": True, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 80, "PublicPort": 1.5, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 80, "PublicPort": 80, "Type": ["tcp"], "IP": "0.0.0.0"},
        {"PrivatePort": 80, "PublicPort": 80, "Type": "tcp,hostfwd=x", "IP": "0.0.0.0"},
        {"PrivatePort": 80, "PublicPort": 80, "Type": "tcp", "IP": "\x1b[2J"},
        {"PrivatePort": 80, "PublicPort": 80, "Type": "tcp", "IP": 7},
        {"PublicPort": 80, "Type": "tcp"},
        "80",
        None,
    ],
)
def test_an_invalid_port_is_ignored(port: Any) -> None:
    sound = {"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "0.0.0.0"}
    assert [publication.port for publication in parse_publications([{"Names": ["/web"], "Ports": [port, sound]}])] == [
        8080
    ]
    assert parse_publications([{"Names": 7, "Ports": 7}, {"Names": [], "Ports": None}, {}]) == []


def crowd(number: int) -> list[dict[str, Any]]:
    ports = [
        {"PrivatePort": 80, "PublicPort": 1024 + offset, "Type": "tcp", "IP": "0.0.0.0"} for offset in range(number)
    ]
    return [{"Names": ["/many"], "Ports": ports}]


def test_the_number_of_forwarded_ports_is_limited(caplog: pytest.LogCaptureFixture) -> None:
    driver = Hypervisor()
    with server(answers(json.dumps(crowd(PORT_LIMIT + 5)))) as port:
        lead = PortForwarder(driver, DockerApi(HERE, port, None))
        assert lead.reconcile()
        assert lead.reconcile()
    assert {forward.port for forward in driver.has} == set(range(1024, 1024 + PORT_LIMIT))
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        f"the containers publish more than {PORT_LIMIT} ports: 5 of them are not forwarded to this host"
    ]


def test_ports_above_the_limit_are_listed_with_that_state() -> None:
    publications = parse_publications(crowd(PORT_LIMIT + 5))
    has = [
        forward
        for publication in published_ports.select_forwarded(publications)
        for forward in published_ports.forwards_for(publication, MACHINE)
    ]
    rows = list_ports(publications, MACHINE, has, lambda _: "")
    assert [row.port for row in rows if row.state == OVER_LIMIT] == list(
        range(1024 + PORT_LIMIT, 1024 + PORT_LIMIT + 5)
    )
    assert len([row for row in rows if row.state == "open"]) == 2 * PORT_LIMIT
    assert all(isinstance(publication, Forward) for publication in has)


def test_a_flood_of_events_is_not_stored_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, goes_on = threading.Event(), threading.Event()
    monkeypatch.setattr(client, "EVENT_LIMIT", 4096)

    def put_right() -> bool:
        looked.set()
        goes_on.wait(20)
        return True

    runs = iter([True, True, False])
    with server(send_endlessly(HEAD + b"\r\n", b"{}\n" * 1000)) as port:
        publisher = EventLoop(DockerApi(HERE, port, None), put_right, lambda: next(runs, False))
        thread = threading.Thread(target=publisher.run, daemon=True)
        thread.start()
        assert looked.wait(20)
        time.sleep(0.5)
        assert publisher._events.qsize() <= REPORT_LIMIT
        goes_on.set()
        thread.join(20)
        assert not thread.is_alive()
