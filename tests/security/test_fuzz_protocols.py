"""Peers of b2d and clients of its agent may send anything: the parsers raise their own error and end soon."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from b2d.docker.client import DockerApi, DockerUnavailableError
from b2d.drivers import control_port
from b2d.drivers.qemu import port_forwards, shared_folders
from b2d.drivers.qemu.qmp import Qmp
from b2d.errors import B2dError, DownloadError
from b2d.guest.readiness import find_problems, parse_stages
from b2d.guest.ssh import connection as ssh_connection
from b2d.host import unix_sockets
from b2d.host_agent.http_guard import BROWSER_HEADERS, HEAD_LIMIT, HttpGuard, RefusedRequestError
from b2d.host_agent.tls_stream import TlsClient
from b2d.image import releases
from b2d.machine.boot_monitor import RUNNING_TIMEOUTS, Attempts, await_docker
from b2d.machine.disk_usage import DataDisk
from b2d.models import CommandResult, Endpoint, Forward, MachineState
from b2d.paths import MachinePaths
from tests.integration.guest.test_readiness import server
from tests.security.fuzzing import HOSTILE, SHARE_S, TARGETS, bent, damaged, dumped, fuzz
from tests.support import ssh_server
from tests.support.fake_machine import Box
from tests.support.fakes import FakeReporter

pytestmark = pytest.mark.timeout(SHARE_S * 2 + 240)


def test_all_fuzz_targets_share_the_time_limit() -> None:
    files = Path(__file__).parent.glob("test_fuzz_*.py")
    assert sum(len(re.findall(r"^ +fuzz\(", path.read_text(), re.MULTILINE)) for path in files) == TARGETS


GREETING = {"QMP": {"version": {"qemu": {"major": 8, "minor": 2, "micro": 0}, "package": "Debian"}}}
FORWARDS = "TCP[HOST_FORWARD]  13  127.0.59.103 2376  10.0.2.15 2376 0 0\r\nTCP[ESTABLISHED] 14 127.0.0.1 80 x 1 2\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def speaking(path: Path, script: Callable[[], list[bytes]]) -> Iterator[None]:
    """Serve a socket: send one piece at once, one for each received line, and close the connection."""
    with unix_sockets.listen(path) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    for number, piece in enumerate(script()):
                        connection.sendall(_with_names(piece, _received(connection) if number else b""))

        threading.Thread(target=serve, daemon=True).start()
        yield
        listening.shutdown(socket.SHUT_RDWR)


def _received(connection: socket.socket) -> bytes:
    """Return the received request, or nothing when the client waits for more."""
    connection.settimeout(0.02)
    try:
        return connection.recv(65536)
    except TimeoutError:
        return b""


def _with_names(piece: bytes, request: bytes) -> bytes:
    """Replace placeholders in the piece by the id and the job of the request."""
    number, job = re.search(rb'"id": (\d+)', request), re.search(rb'"b2d-[\w-]+"', request)
    piece = piece.replace(b'"@id@"', number[1] if number else b"0")
    return re.sub(rb'"@job@"', job[0] if job else b'"@job@"', piece)


def test_answers_on_the_qmp_socket(tmp_path: Path) -> None:
    path, script = tmp_path / "qmp.sock", [b""]
    listed = [{"id": "@job@", "status": "concluded", "type": "x"}]
    value = st.one_of(
        HOSTILE,
        st.sampled_from([FORWARDS, FORWARDS.replace("2376", "9" * 5000), FORWARDS.replace("2376", "\u0663")]),
        st.fixed_dictionaries({"status": HOSTILE}),
        st.fixed_dictionaries({"blocked-reasons": st.one_of(HOSTILE, st.lists(HOSTILE))}),
        st.lists(st.fixed_dictionaries({"id": st.just("@job@")}, optional={"status": HOSTILE, "error": HOSTILE})),
    )
    sound = st.sampled_from([{}, {"status": "running"}, listed, FORWARDS])
    answer = st.one_of(
        st.builds(lambda value: dumped({"return": value, "id": "@id@"}) + b"\n", st.one_of(value, value, sound)),
        st.builds(lambda value: dumped({"error": value, "id": "@id@"}) + b"\n", HOSTILE),
        st.builds(lambda value: dumped(value) + b"\n", HOSTILE),
        st.binary(max_size=20),
    )
    greeting = st.one_of(st.just(dumped(GREETING)), st.just(dumped(GREETING)), bent(GREETING)).map(
        lambda line: line + b"\n"
    )
    agreed = st.just(dumped({"return": {}, "id": "@id@"}) + b"\n")

    def job(qmp: Qmp) -> None:
        qmp.run_job("snapshot-save", 0.1, tag="x")

    uses: list[Callable[[], object]] = [
        lambda: _with(path, shared_folders.count_mounted),
        lambda: _with(path, job),
        lambda: port_forwards.list_forwards(path),
        lambda: port_forwards.add_forward(path, Forward("tcp", "127.0.0.1", 80)),
    ]

    def check(lines: list[bytes]) -> None:
        script[:] = lines
        for use in uses:
            with suppress(B2dError):
                outcome: Any = use()
                if outcome is not None and not isinstance(outcome, int):
                    assert all(0 < forward.port < 65536 for forward in outcome)

    with speaking(path, lambda: list(script)):
        fuzz(st.tuples(greeting, agreed, answer, answer, answer).map(list), check)


def _with(path: Path, use: Callable[[Qmp], object]) -> object:
    with Qmp(path) as qmp:
        return use(qmp)


def test_answers_on_the_control_port_of_a_guest(tmp_path: Path) -> None:
    paths, response = MachinePaths(tmp_path), [b""]
    samples = [
        b"held container web a b\nheld program 12 sh -c x\nfolders let-go\n",
        b"without /data\nfolders have\n",
        b"noise\r\nmoved\n",
    ]

    def check(content: bytes) -> None:
        response[0] = content
        with suppress(B2dError):
            shared_folders.unmount(paths, "box")
        with suppress(B2dError):
            shared_folders.mount(paths, ["/data", "/more"], [1])
        with suppress(B2dError):
            control_port.move_clock(paths.line_socket, 5)

    with speaking(paths.line_socket, lambda: [b"", response[0], b""]):
        fuzz(damaged(*samples), check)


class Chatty:
    """A machine with nothing but console output."""

    def __init__(self) -> None:
        self.output = ""

    def state(self) -> MachineState:
        return MachineState.RUNNING

    def console(self) -> str:
        return self.output


def test_the_console_of_a_booting_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = b"[ 0.1] noise\r\nb2d: 2.50 kernel\r\nb2d: 3.10 root\nb2d: warn no disk\nb2d: nan docker\nb2d: inf ready\n"
    sample += b"b2d: fail\n"
    driver: Any = Chatty()

    def check(example: tuple[bytes, int]) -> None:
        driver.output = example[0].decode(errors="replace") * example[1]
        reporter = FakeReporter()
        with suppress(B2dError):
            await_docker("box", driver, Attempts(lambda _: None), reporter, 0.01, RUNNING_TIMEOUTS)
        assert len(reporter.texts("warn")) < 100
        assert all(abs(stage.uptime_s) < 1e12 for stage in parse_stages(driver.output))
        find_problems(driver.output)

    known = [(b"b2d: x\n", 500_000), (b"".join(b"b2d: warn %d\n" % number for number in range(200_000)), 1)]
    fuzz(st.tuples(damaged(sample), st.sampled_from([1, 2, 1000])), check, known)


REQUESTS = [
    b"POST /v1.45/containers/create?name=x HTTP/1.1\r\nHost: 127.0.59.103:2375\r\nContent-Length: 4\r\n\r\nbody"
    b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /build HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n"
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST /exec/1/start HTTP/1.1\r\nHost: localhost\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n\0raw bytes\r\n\r\n",
    b"GET /info HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]


def guarded(pieces: list[bytes]) -> tuple[bytes, bool]:
    """Return the bytes that the guard passes on, and whether it refused the rest."""
    guard, passed = HttpGuard(("127.0.59.103", "localhost")), b""
    for piece in pieces:
        try:
            passed += guard.check(piece)
        except RefusedRequestError:
            return passed, True
        assert len(guard._buffer) <= HEAD_LIMIT
    return passed, False


def test_requests_to_docker() -> None:
    words = re.compile(rb"\r\n(?i:" + b"|".join(word.encode() for word in BROWSER_HEADERS) + rb")[ \t]*:")

    def check(example: tuple[bytes, int]) -> None:
        content, step = example
        pieces = [content[at : at + step] for at in range(0, len(content), step)]
        passed, refused = guarded(pieces)
        assert content.startswith(passed)
        at_once, refused_at_once = guarded([content])
        assert refused_at_once == refused
        assert refused or at_once == passed
        first = passed.partition(b"\r\n\r\n")[0]
        assert words.search(first) is None
        assert not first or re.search(rb"(?i)\r\nhost:[ \t]*(127\.0\.59\.103|localhost)(:\d+)?[ \t]*(\r\n|$)", first)

    fuzz(st.tuples(damaged(*REQUESTS), st.integers(1, 50)), check)


def test_data_in_place_of_tls_from_docker() -> None:
    hello = b"\x16\x03\x03\0\x31\x02\0\0\x2d\x03\x03" + bytes(32) + b"\0\x13\x01\0\0\5\0\x2b\0\2\3\4"
    alert = b"\x15\x03\x03\0\2\2\x28"

    def check(content: bytes) -> None:
        wire = TlsClient(ssl.create_default_context(), "127.0.0.1")
        with suppress(OSError):
            assert wire.encode(b"GET / HTTP/1.1\r\n\r\n")
            assert wire.decode(content).plaintext == b""
            wire.decode(b"")
            wire.encode_eof()

    fuzz(damaged(hello, alert, hello + alert, b"HTTP/1.1 400 Bad Request\r\n\r\n"), check)


def test_docker_events() -> None:
    event = b'{"Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{"name":"web"}}}\n'
    samples = [STREAM + b"%x\r\n" % len(event) + event + b"\r\n" + tail for tail in (b"", b"0\r\n\r\n")]
    samples.append(b"HTTP/1.1 200 OK\r\n\r\n" + event * 3)
    response = [b""]

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(response[0])
        connection.close()

    with server(answer) as port:

        def check(content: bytes) -> None:
            response[0] = content
            with suppress(DockerUnavailableError):
                for number, _ in enumerate(DockerApi("127.0.0.1", port, None).changes(2)):
                    assert number < 5000

        fuzz(damaged(*samples), check)


def recorded(at: ssh_server.Sshd, paths: MachinePaths) -> bytes:
    """Return the bytes of a real server up to the encrypted part."""
    received = b""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def carry() -> None:
            nonlocal received
            client, _ = listening.accept()
            with client, socket.create_connection(("127.0.0.1", at.port)) as engine:

                def back() -> None:
                    with suppress(OSError):
                        while piece := client.recv(65536):
                            engine.sendall(piece)
                        engine.shutdown(socket.SHUT_RDWR)

                threading.Thread(target=back, daemon=True).start()
                with suppress(OSError):
                    while piece := engine.recv(65536):
                        received += piece
                        client.sendall(piece)

        thread = threading.Thread(target=carry, daemon=True)
        thread.start()
        endpoint = Endpoint("127.0.0.1", listening.getsockname()[1], 0)
        ssh_connection.connect(endpoint, paths).close()
        thread.join(10)
    return received


def test_answers_on_the_ssh_port_of_a_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, response = ssh_server.machine(tmp_path), [b""]
    with ssh_server.guest_of(paths).running() as real:
        whole = recorded(real, paths)
    monkeypatch.setattr(ssh_connection, "GREETING_S", 0.0)

    def answer(connection: socket.socket) -> None:
        connection.sendall(response[0])
        connection.shutdown(socket.SHUT_WR)
        connection.close()

    with server(answer) as port:

        def check(content: bytes) -> None:
            response[0] = content
            with suppress(B2dError):
                ssh_connection.connect(Endpoint("127.0.0.1", port, 0), paths).close()

        begin = whole.index(b"\n") + 1
        known = [b"\xff\n", whole[:begin] + b"\x7f\xff\xff\xfc" + bytes(100), whole[:begin] + b"\xff\xff\xff\xfc"]
        fuzz(
            damaged(whole, hot=((0, 30), (begin, begin + 60), (begin, len(whole)), (len(whole) - 500, len(whole)))),
            check,
            known,
        )


def test_the_disk_usage_reported_by_a_guest(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = b"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 19475088 123456 18342512 1% /mnt\n"

    class Guest:
        output = b""

        def run(self, command: str, timeout_s: float, limit: int = 0) -> CommandResult:
            return CommandResult(0, self.output, b"")

    guest: Any = Guest()
    monkeypatch.setattr(box, "guest", guest)
    box.create_machine().up()
    disk = DataDisk(box.machine())

    def check(content: bytes) -> None:
        guest.output = content
        usage = disk._files()
        assert usage is None or min(usage.size, usage.used, usage.free) >= 0

    fuzz(damaged(sample), check)


def test_answers_of_a_releases_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://127.0.0.1/x/boot2docker.iso"
    asset = {"name": "boot2docker.iso", "browser_download_url": url, "digest": "sha256:" + "a" * 64}
    release = {"tag_name": "v19.03.12", "assets": [asset], "body": "b" * 64 + "  boot2docker.iso", "draft": False}
    response = [b""]
    monkeypatch.setattr("b2d.network.http_cache.get_cached", lambda *_: response[0])

    def check(content: bytes) -> None:
        response[0] = content
        with suppress(DownloadError):
            newest = releases.newest_release(tmp_path, "https://127.0.0.1/")
            assert newest.url.lower().startswith("https:")
            assert re.fullmatch("[0-9a-f]{64}|", newest.sha256)

    known = [dumped({**release, "assets": [{**asset, "browser_download_url": "https://[x"}]})]
    fuzz(st.one_of(bent([release, release]), bent(release)), check, known)
