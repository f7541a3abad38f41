"""A Unix socket relays to a machine's Docker: complete, both ways, with separate ends, for many connections at once."""

import hashlib
import os
import resource
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2d.docker.client import DockerApi
from b2d.guest import tls_certificates
from b2d.host import unix_sockets
from b2d.host_agent.docker_socket import ListeningSocket, relay_connections
from b2d.host_agent.stream_end import docker_connector
from b2d.paths import MachinePaths

HERE = "127.0.0.1"
LIMIT_S = 20
Talk = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> MachinePaths:
    paths = MachinePaths(tmp_path_factory.mktemp("identity"))
    tls_certificates.ensure_certificates(paths, [HERE], datetime.now(UTC))
    return paths


@pytest.fixture(params=["tls", "clear"])
def secured(request: pytest.FixtureRequest, identity: MachinePaths) -> MachinePaths | None:
    return identity if request.param == "tls" else None


@contextmanager
def engine(talk: Talk, secured: MachinePaths | None) -> Iterator[DockerApi]:
    """Serve a Docker that runs `talk` on each connection."""
    listener = socket.create_server((HERE, 0))
    tls: ssl.SSLContext | None = None
    if secured is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(secured.authority / "server.pem", secured.authority / "server-key.pem")
        tls.load_verify_locations(secured.certs / "ca.pem")
        tls.verify_mode = ssl.CERT_REQUIRED

    def answer(raw: socket.socket) -> None:
        with suppress(OSError), raw, tls.wrap_socket(raw, server_side=True) if tls else raw as line:
            line.settimeout(LIMIT_S)
            talk(line)

    def serve() -> None:
        while listener.fileno() >= 0:
            try:
                connection, _ = listener.accept()
            except OSError:  # it was closed, or this process has too many files open for a moment
                time.sleep(0.01)
                continue
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield DockerApi(HERE, listener.getsockname()[1], secured.certs if secured else None)
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def served(path: Path, docker: DockerApi) -> Iterator[None]:
    """Relay `path` to that Docker during the block."""
    with (
        unix_sockets.listening(path) as listener,
        relay_connections([ListeningSocket(listener, docker_connector(docker))]),
    ):
        yield


def dial(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(LIMIT_S)
    unix_sockets.connect(connection, path)
    return connection


def read_to_end(line: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ssl.SSLZeroReturnError):  # raised when the peer closes after this side
        while piece := line.recv(1 << 16):
            received += piece
    return bytes(received)


def send_digest(line: socket.socket) -> None:
    """Send a digest of the data after the client's end of file."""
    line.sendall(hashlib.sha256(read_to_end(line)).digest())


def echo(line: socket.socket) -> None:
    while piece := line.recv(1 << 16):
        line.sendall(piece)


def half_close(line: socket.socket) -> None:
    """Close its own direction at once, and keep reading."""
    line.recv(5)
    line.sendall(b"bye")
    if isinstance(line, ssl.SSLSocket):
        line.settimeout(0)
        with suppress(ssl.SSLWantReadError):
            line.unwrap()
        line.settimeout(LIMIT_S)
    else:
        line.shutdown(socket.SHUT_WR)
    HEARD.append(read_to_end(line))
    ENDED.set()


HEARD: list[bytes] = []
ENDED = threading.Event()


def send_all(line: socket.socket, request: bytes) -> None:
    line.sendall(request)
    line.shutdown(socket.SHUT_WR)


def exchange(path: Path, question: bytes) -> bytes:
    with dial(path) as connection:
        send_all(connection, question)
        return read_to_end(connection)


def test_the_client_may_end_its_side_and_still_gets_the_response(tmp_path: Path, secured: MachinePaths | None) -> None:
    question = os.urandom(5_000_000)
    with engine(send_digest, secured) as docker, served(tmp_path / "sock", docker):
        for request in (b"x", question):
            assert exchange(tmp_path / "sock", request) == hashlib.sha256(request).digest()


def test_docker_may_end_its_side_and_the_client_may_still_send(tmp_path: Path, secured: MachinePaths | None) -> None:
    HEARD.clear()
    ENDED.clear()
    with (
        engine(half_close, secured) as docker,
        served(tmp_path / "sock", docker),
        dial(tmp_path / "sock") as connection,
    ):
        connection.sendall(b"hello")
        assert read_to_end(connection) == b"bye"
        connection.sendall(b"and more")
        connection.shutdown(socket.SHUT_WR)
        assert ENDED.wait(LIMIT_S)
        assert HEARD == [b"and more"]


def test_both_sides_send_at_once_on_many_connections(tmp_path: Path, secured: MachinePaths | None) -> None:
    wrong: list[int] = []

    def converse(number: int) -> None:
        request = os.urandom(300_000 + number)
        with dial(tmp_path / "sock") as connection:
            speaking = threading.Thread(target=send_all, args=(connection, request))
            speaking.start()
            if read_to_end(connection) != request:
                wrong.append(number)
            speaking.join()

    with engine(echo, secured) as docker, served(tmp_path / "sock", docker), dial(tmp_path / "sock") as idle:
        threads = [threading.Thread(target=converse, args=(number,)) for number in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        idle.sendall(b"still there")
        assert idle.recv(100) == b"still there"
    assert wrong == []


def test_data_is_not_read_faster_than_the_client_reads(tmp_path: Path, secured: MachinePaths | None) -> None:
    sent = 0

    def floods(line: socket.socket) -> None:
        nonlocal sent
        line.recv(1)
        line.settimeout(1)
        while True:
            sent += line.send(b"\0" * 65536)

    with engine(floods, secured) as docker, served(tmp_path / "sock", docker), dial(tmp_path / "sock") as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"\0"
        threading.Event().wait(2)
        assert 1_000_000 < sent < 40_000_000  # buffers of the kernel and the relay


def test_data_is_not_buffered_for_a_docker_without_a_tls_handshake(tmp_path: Path, identity: MachinePaths) -> None:
    with socket.create_server((HERE, 0)) as mute:
        docker = DockerApi(HERE, mute.getsockname()[1], identity.certs)
        with served(tmp_path / "sock", docker), dial(tmp_path / "sock") as connection:
            connection.settimeout(1)
            sent = 0
            with suppress(TimeoutError):
                while sent < 50_000_000:
                    sent += connection.send(b"\0" * 65536)
    assert sent < 10_000_000


def test_only_the_owner_may_connect_and_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    unix_sockets.listen(path).close()  # of a killed process
    assert not unix_sockets.answers(path)
    before = os.umask(0)
    try:
        with engine(send_digest, None) as docker, served(path, docker):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert unix_sockets.answers(path)
            assert exchange(path, b"x") == hashlib.sha256(b"x").digest()
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_two_sockets_reach_their_own_dockers_even_in_a_deep_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    before = Path.cwd()
    with ExitStack() as open_:
        for path, word in ((tmp_path / "sock", b"one"), (deep / "sock", b"two")):
            talk: Talk = lambda line, word=word: line.sendall(word + read_to_end(line))  # type: ignore[misc]  # noqa: E731
            docker = open_.enter_context(engine(talk, None))
            open_.enter_context(served(path, docker))
        assert (exchange(tmp_path / "sock", b"?"), exchange(deep / "sock", b"?")) == (b"one?", b"two?")
    assert Path.cwd() == before
    assert list(deep.iterdir()) == []


def test_an_unreachable_docker_ends_the_connection_at_once(tmp_path: Path, secured: MachinePaths | None) -> None:
    with engine(send_digest, secured) as docker:
        pass
    with served(tmp_path / "sock", docker), suppress(ConnectionError):
        assert exchange(tmp_path / "sock", b"GET /_ping HTTP/1.1\r\n\r\n") == b""


def test_a_check_whether_the_socket_listens_opens_no_connection_to_docker(tmp_path: Path) -> None:
    came: list[socket.socket] = []

    def notes(line: socket.socket) -> None:
        came.append(line)
        read_to_end(line)

    with engine(notes, None) as docker, served(tmp_path / "sock", docker):
        for _ in range(3):
            assert unix_sockets.answers(tmp_path / "sock")
        assert exchange(tmp_path / "sock", b"x") == b""
    assert len(came) == 1


def test_connections_beyond_the_limit_wait(tmp_path: Path) -> None:
    path, (soft, hard) = tmp_path / "sock", resource.getrlimit(resource.RLIMIT_NOFILE)
    with engine(echo, None) as docker, served(path, docker):
        used = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, hard))
        try:
            held = []
            with suppress(OSError):
                while True:
                    held.append(dial(path))
                    held[-1].sendall(b"x")
            for connection in held:
                connection.close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert exchange(path, b"after") == b"after"
