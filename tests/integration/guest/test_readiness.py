"""Boot stages reported by a guest, and Docker's answer, its absence, or an answer from another Docker."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.docker.client import DockerApi
from b2d.guest import tls_certificates
from b2d.guest.readiness import BootProblem, Engine, Ping, Stage, engine, find_problems, parse_stages, ping
from b2d.paths import MachinePaths
from tests.support.timing import not_waiting_for

ANSWER = b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\nContent-Length: 2\r\n\r\nOK"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Start a server on loopback that treats each connection this way and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    serve(connection)
                except OSError:
                    connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def answer_with(content: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(content)
        connection.close()

    return serve


def test_a_ping_returns_api_version_and_clock() -> None:
    with server(answer_with(ANSWER)) as port:
        assert ping(DockerApi("127.0.0.1", port, None), 5) == Ping("1.45", NOON)


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
        ANSWER.replace(b"200 OK", b"503 Wait"),
        b"SSH-2.0-dropbear\r\n",
        b"",
        b"\x00" * 100,
    ],
)
def test_a_ping_answer_that_is_not_docker_s_is_ignored(content: bytes) -> None:
    with server(answer_with(content)) as port:
        assert ping(DockerApi("127.0.0.1", port, None), 5) is None


def test_an_invalid_date_is_no_clock() -> None:
    with server(answer_with(ANSWER.replace(b"Tue, 24 Nov", b"soon"))) as port:
        assert ping(DockerApi("127.0.0.1", port, None), 5) == Ping("1.45", None)


def test_a_server_that_never_answers_times_out(tmp_path: Path) -> None:
    connections: list[socket.socket] = []
    paths = MachinePaths(tmp_path)
    tls_certificates.ensure_certificates(paths, [], datetime.now(UTC))
    with server(connections.append) as port:
        for folder in (None, paths.certs):
            with not_waiting_for(4):
                assert ping(DockerApi("127.0.0.1", port, folder), 0.3) is None


def test_a_closed_port_returns_no_answer() -> None:
    with server(answer_with(ANSWER)) as port:
        pass
    assert ping(DockerApi("127.0.0.1", port, None), 5) is None


def test_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with server(answer_with(ANSWER)) as port:
        assert ping(DockerApi("127.0.0.1", port, None), 5) is not None


def test_with_tls_only_the_docker_of_the_machine_is_accepted(tmp_path: Path) -> None:
    own, other = MachinePaths(tmp_path / "own"), MachinePaths(tmp_path / "other")
    for paths in (own, other):
        tls_certificates.ensure_certificates(paths, [], datetime.now(UTC))

    def tls(paths: MachinePaths) -> Callable[[socket.socket], None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(paths.authority / "server.pem", paths.authority / "server-key.pem")
        context.load_verify_locations(paths.certs / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        return lambda connection: answer_with(ANSWER)(context.wrap_socket(connection, server_side=True))

    with server(tls(own)) as port:
        assert ping(DockerApi("127.0.0.1", port, own.certs), 5) == Ping("1.45", NOON)
    with server(tls(other)) as port:
        assert ping(DockerApi("127.0.0.1", port, own.certs), 5) is None


CONSOLE = (
    "[    0.1] noise\r\nb2d: 2.50 kernel\r\nlogin: b2d: 3.10 root\n"
    "b2d: warn no disk\nb2d: 4 disk\nb2d: fail why\nb2d: 5.0 net"
)


def test_stages_are_parsed_from_whole_lines_of_the_console() -> None:
    assert parse_stages(CONSOLE) == [Stage("kernel", 2.5), Stage("root", 3.1), Stage("disk", 4.0)]


def test_problems_are_parsed_with_their_severity() -> None:
    assert find_problems(CONSOLE) == [BootProblem("no disk", fatal=False), BootProblem("why", fatal=True)]


def test_console_output_before_the_last_boot_is_ignored() -> None:
    again = "b2d: 2.0 kernel\nb2d: 3.0 root\n"
    assert parse_stages(CONSOLE + "\n" + again) == [Stage("kernel", 2.0), Stage("root", 3.0)]
    assert find_problems(CONSOLE + "\n" + again) == []


FACTS = b'{"ServerVersion": "26.1.5+dfsg1", "KernelVersion": "6.12.57", "Driver": "overlay2", "ID": 1}'
INFO = b"HTTP/1.1 200 OK\r\n\r\n" + FACTS


def test_docker_info_returns_the_engine() -> None:
    with server(answer_with(INFO)) as port:
        assert engine(DockerApi("127.0.0.1", port, None), 5) == Engine("26.1.5+dfsg1", "6.12.57", "overlay2")


@pytest.mark.parametrize(
    "content",
    [ANSWER, b"HTTP/1.1 200 OK\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n[]", INFO.replace(b"200 OK", b"503 Wait"), b""],
)
def test_an_info_answer_that_is_not_docker_s_is_ignored(content: bytes) -> None:
    with server(answer_with(content)) as port:
        assert engine(DockerApi("127.0.0.1", port, None), 5) is None


@given(st.text())
def test_any_console_text_can_be_parsed(text: str) -> None:
    parse_stages(text)
    find_problems(text)
