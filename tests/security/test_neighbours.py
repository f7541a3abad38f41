"""Other users, web pages and programs that act for a guest are refused at the agent's ports (H1, M1, M4)."""

import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2d.docker.client import DockerApi
from b2d.host_agent import docker_socket, peer, sock_diag
from b2d.host_agent.docker_socket import ListeningSocket
from b2d.host_agent.http_guard import HttpGuard, RefusedRequestError, forbidden_response
from b2d.host_agent.peer import is_owner
from b2d.host_agent.stream_end import docker_connector, guest_connector
from b2d.host_agent.tls_stream import GuardedPlainText
from tests.support.timing import not_waiting_for

HERE = "127.0.0.1"
HOSTS = ("127.0.59.103", "localhost", "127.0.0.1", "[::1]")
SOON_S = 10
SLOW_S = 2
OTHER = 12345  # a uid without a user
TALK = """
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
connection.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
connection.settimeout(10)
try:
    print(connection.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""
PING = b"GET /_ping HTTP/1.1\r\nHost: 127.0.59.103:2375\r\nUser-Agent: docker\r\n\r\n"


@contextmanager
def an_engine() -> Iterator[DockerApi]:
    """Start a server that echoes each piece with the prefix `heard`."""
    with socket.create_server((HERE, 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                while data := connection.recv(65536):
                    connection.sendall(b"heard " + data)

        threading.Thread(target=serve, daemon=True).start()
        yield DockerApi(HERE, listener.getsockname()[1], None)
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def port() -> Iterator[int]:
    """Serve a Docker without TLS as the agent does, and yield the port."""
    with ExitStack() as opened:
        engine = opened.enter_context(an_engine())
        listener = socket.create_server((HERE, 0))
        entrance = ListeningSocket(
            listener,
            docker_connector(engine),
            is_owner,
            lambda: GuardedPlainText(HttpGuard(HOSTS).check, forbidden_response()),
        )
        number = listener.getsockname()[1]
        opened.enter_context(docker_socket.relay_connections([entrance]))
        yield number


def send_request(port: int, request: bytes) -> bytes:
    with socket.create_connection((HERE, port), SOON_S) as connection:
        connection.sendall(request)
        with suppress(ConnectionError):
            return connection.recv(65536)
    return b""


def as_user(uid: int, port: int) -> str:
    command = [sys.executable, "-c", TALK, str(port)]
    if not Path(sys.executable).is_relative_to("/usr"):  # root's own Python is closed to others
        command[0] = "/usr/bin/python3"
    completed = subprocess.run(
        command, user=uid, group=uid, extra_groups=[], capture_output=True, text=True, check=False
    )
    return completed.stdout.strip() or completed.stderr


# peers


def test_a_program_of_this_user_is_accepted(port: int) -> None:
    assert send_request(port, PING) == b"heard " + PING


def test_a_program_of_another_user_is_refused(port: int) -> None:
    assert as_user(0, port).startswith("heard GET /_ping")
    assert "heard" not in as_user(OTHER, port)


def test_a_program_acting_for_a_guest_is_refused(port: int, tmp_path: Path) -> None:
    """A container's traffic leaves through its hypervisor, which is a program of this user."""
    carrier = tmp_path / "qemu-system-x86_64"
    carrier.symlink_to("/usr/bin/python3")
    named = f"import ctypes; ctypes.CDLL(None).prctl(15, b'qemu-system-x86', 0, 0, 0){TALK}"
    completed = subprocess.run([carrier, "-c", named, str(port)], capture_output=True, text=True, check=False)
    assert "heard" not in completed.stdout
    assert as_user(0, port).startswith("heard")


def test_an_ended_program_is_not_the_owner(port: int) -> None:
    """The kernel reports root as the owner of a socket without a process."""
    listener = socket.create_server((HERE, 0))
    script = f"import socket; socket.create_connection(('{HERE}', {listener.getsockname()[1]}))"
    subprocess.run(["/usr/bin/python3", "-c", script], user=OTHER, group=OTHER, check=True)
    connection, _ = listener.accept()
    with listener, connection:
        assert not is_owner(connection)


def test_owners_are_identified_alike_on_other_platforms() -> None:
    with socket.create_server((HERE, 0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert is_owner(connection, "linux")
            assert is_owner(connection, "darwin")


def test_an_ipv4_mapped_address_is_identified_too(port: int) -> None:
    """Java programs do this."""
    script = TALK.replace('"127.0.0.1"', '"::ffff:127.0.0.1"')
    outputs = {}
    for uid in (0, OTHER):
        command = ["/usr/bin/python3", "-c", script, str(port)]
        outputs[uid] = subprocess.run(command, user=uid, group=uid, capture_output=True, text=True, check=False).stdout
    assert outputs[0].startswith("heard")
    assert "heard" not in outputs[OTHER]


def test_an_unreadable_proc_identifies_no_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text("  sl  local_address rem_address   st\n   0: garbage\n")
    with socket.create_server((HERE, 0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            monkeypatch.setattr(peer, "PROC", tmp_path)
            monkeypatch.setattr(sock_diag, "_is_available", lambda: False)
            assert not is_owner(connection)


def test_idle_connections_of_other_users_do_not_block_the_owner(port: int) -> None:
    script = f"""
import socket, sys
held = [socket.create_connection(("{HERE}", {port})) for _ in range(200)]
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", script], user=OTHER, group=OTHER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as stranger:
        assert stranger.stdout is not None and stranger.stdin is not None
        assert stranger.stdout.readline() == b"held\n"
        with not_waiting_for(SOON_S):
            assert send_request(port, PING).startswith(b"heard")
        stranger.stdin.close()


# web pages

OF_BROWSERS = {
    "a simple POST": b"POST /build?remote=x HTTP/1.1\r\nHost: 127.0.59.103:2375\r\nOrigin: https://evil.example\r\n"
    b"Content-Length: 0\r\n\r\n",
    "a sandboxed page": b"POST /build HTTP/1.1\r\nHost: localhost:2375\r\nOrigin: null\r\nContent-Length: 0\r\n\r\n",
    "a name that leads here": b"GET /containers/json HTTP/1.1\r\nHost: evil.example:2375\r\n\r\n",
    "a name that ends so": b"GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n",
    "an image": b"GET /version HTTP/1.1\r\nHost: 127.0.59.103:2375\r\nReferer: https://evil.example/\r\n\r\n",
    "a newer browser": b"GET /version HTTP/1.1\r\nHost: 127.0.59.103\r\nSec-Fetch-Site: cross-site\r\n\r\n",
    "a preflight": b"OPTIONS /build HTTP/1.1\r\nHost: 127.0.59.103:2375\r\nOrigin: https://evil.example\r\n\r\n",
    "a WebSocket": b"GET /containers/x/attach/ws HTTP/1.1\r\nHost: 127.0.59.103\r\nOrigin: https://evil.example\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "no host": b"GET /_ping HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a whole address": b"GET http://localhost/_ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two lengths": b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a folded header": b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nX: a\r\n Origin: evil\r\n\r\n",
    "bare line feeds": b"GET /_ping HTTP/1.1\nHost: localhost\n\n" + b" " * 70_000,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(70_000),
    "no end": b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000,
}


@pytest.mark.parametrize("kind", OF_BROWSERS)
def test_requests_of_web_pages_are_refused(port: int, kind: str) -> None:
    answer = send_request(port, OF_BROWSERS[kind])
    assert b"heard" not in answer
    assert b"403" in answer or answer == b""


@pytest.mark.parametrize("kind", ["a simple POST", "a name that leads here", "a newer browser"])
def test_requests_of_web_pages_are_refused_on_an_accepted_connection(port: int, kind: str) -> None:
    body = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    chunks = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with socket.create_connection((HERE, port), SOON_S) as connection:
        for request in (PING, body, chunks):
            connection.sendall(request)
            got = b""
            while len(got) < len(request) + 6:
                got += connection.recv(65536)
        connection.sendall(OF_BROWSERS[kind])
        with suppress(ConnectionError):
            assert b"heard" not in connection.recv(65536)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:2375", "127.0.59.103", "127.0.0.1:1", "[::1]:2375"])
def test_requests_of_docker_clients_are_passed_unchanged(host: str) -> None:
    stream = (
        f"GET /_ping HTTP/1.1\r\nHost: {host}\r\n\r\n"
        f"POST /images/load HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        "a\r\n0123456789\r\n5;x=y\r\nab\r\nc\r\n0\r\n\r\n"
        f"POST /exec/1/start HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nUpgrade: tcp\r\n\r\n{{}}"
    ).encode() + bytes(range(256))
    for size in (1, 2, 3, 7, 50, len(stream)):
        guard = HttpGuard(HOSTS)
        passed = b"".join(guard.check(stream[at : at + size]) for at in range(0, len(stream), size))
        assert passed == stream


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([*OF_BROWSERS.values(), PING, b"\r\n", b"0\r\n\r\n"]) | st.binary(max_size=50), max_size=6)
)
def test_any_data_is_passed_or_refused(pieces: list[bytes]) -> None:
    guard, passed = HttpGuard(HOSTS), b""
    with suppress(RefusedRequestError):
        for piece in pieces:
            passed += guard.check(piece)
    sent = b"".join(pieces)
    assert sent.startswith(passed)
    heads = [head.split(b"\r\n\r\n")[0] for head in passed.split(b" HTTP/1.1\r\n")[1:]]
    assert not any(b"\r\nOrigin:" in b"\r\n" + head for head in heads)


# the SSH port


def test_a_listener_that_dials_lets_the_peer_send_first() -> None:
    """A slow connection does not delay later ones."""
    slow = threading.Event()

    def dial() -> socket.socket:
        near, far = socket.socketpair()
        far.sendall(b"SSH-2.0-guest\r\n")
        if not slow.is_set():
            slow.set()
            time.sleep(SLOW_S)
        far.close()
        return near

    listener = socket.create_server((HERE, 0))
    address = listener.getsockname()
    with (
        docker_socket.relay_connections([ListeningSocket(listener, guest_connector(dial), is_owner, dials=True)]),
        socket.create_connection(address, SOON_S) as first,
        socket.create_connection(address, SOON_S) as second,
    ):
        with not_waiting_for(SLOW_S):
            ready, _, _ = select.select([first, second], [], [], SOON_S)
            assert ready[0].recv(100) == b"SSH-2.0-guest\r\n"
        assert {first.recv(100), second.recv(100)} == {b"SSH-2.0-guest\r\n", b""}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 1)


def test_an_unreachable_guest_ends_the_connection_at_once() -> None:
    def dial() -> socket.socket:
        raise OSError("nobody there")

    listener = socket.create_server((HERE, 0))
    address = listener.getsockname()
    with docker_socket.relay_connections([ListeningSocket(listener, guest_connector(dial), is_owner, dials=True)]):
        for _ in range(3):
            with socket.create_connection(address, SOON_S) as connection, suppress(ConnectionError):
                assert connection.recv(100) == b""
