"""The client of QEMU's control socket follows the protocol and its timeouts, whatever the peer does."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from b2d.drivers.qemu.qmp import Qmp, QmpCommandError, QmpError, QmpTimeoutError
from b2d.errors import WaitTimeoutError
from tests.support.timing import not_waiting_for

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"}}}
EVENT = {"event": "RTC_CHANGE", "data": {"offset": 0}, "timestamp": {"seconds": 1, "microseconds": 2}}
Script = Callable[["Peer"], None]


class Peer:
    """The other end of a connection, controlled by a test."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._lines = connection.makefile("rb")

    def send(self, *messages: object) -> None:
        self.raw(b"".join(json.dumps(message).encode() + b"\r\n" for message in messages))

    def raw(self, data: bytes) -> None:
        self.connection.sendall(data)

    def question(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise ConnectionError
        command: dict[str, Any] = json.loads(line)
        return command

    def greet(self) -> None:
        self.send(GREETING)
        self.answer({})

    def answer(self, value: object) -> dict[str, Any]:
        """Wait for a command and answer it."""
        command = self.question()
        self.send({"return": value, "id": command["id"]})
        return command


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Script], Path]]:
    """Serve one connection by a script; the connection stays open until the test ends."""
    server = socket.socket(socket.AF_UNIX)
    done = threading.Event()
    threads: list[threading.Thread] = []

    def begin(script: Script) -> Path:
        path = tmp_path / "qmp.sock"
        server.bind(str(path))
        server.listen(1)

        def run() -> None:
            with server.accept()[0] as connection:
                try:
                    script(Peer(connection))
                    done.wait(10)
                except OSError:
                    pass  # the client may have closed the connection

        threads.append(threading.Thread(target=run, daemon=True))
        threads[0].start()
        return path

    yield begin
    done.set()
    for thread in threads:
        thread.join(10)
    server.close()


def test_the_greeting_contains_the_version(serve: Callable[[Script], Path]) -> None:
    with Qmp(serve(Peer.greet)) as qmp:
        assert qmp.version == "7.2.22 Debian"


def test_a_command_returns_its_result(serve: Callable[[Script], Path]) -> None:
    commands: list[dict[str, Any]] = []

    def script(peer: Peer) -> None:
        peer.greet()
        commands.append(peer.question())
        peer.send({"return": {"status": "running"}, "id": commands[0]["id"]})

    with Qmp(serve(script)) as qmp:
        assert qmp.execute("query-status", job_id="x") == {"status": "running"}
    assert commands[0]["execute"] == "query-status"
    assert commands[0]["arguments"] == {"job-id": "x"}


def test_events_and_late_responses_are_skipped(serve: Callable[[Script], Path]) -> None:
    def script(peer: Peer) -> None:
        peer.send(GREETING, EVENT)
        peer.answer({})
        command = peer.question()
        peer.send(EVENT, {"return": "late", "id": command["id"] - 1}, EVENT, {"return": "right", "id": command["id"]})

    with Qmp(serve(script)) as qmp:
        assert qmp.execute("query-status") == "right"


def test_a_response_in_pieces_is_reassembled(serve: Callable[[Script], Path]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        command = peer.question()
        text = json.dumps({"return": "wh\u00f6le", "id": command["id"]}, ensure_ascii=False).encode() + b"\n"
        for place in range(len(text)):
            peer.raw(text[place : place + 1])

    with Qmp(serve(script)) as qmp:
        assert qmp.execute("query-status") == "wh\u00f6le"


def test_an_error_response_is_raised_and_the_connection_stays_usable(serve: Callable[[Script], Path]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        command = peer.question()
        peer.send({"error": {"class": "GenericError", "desc": "not now"}, "id": command["id"]})
        peer.answer("after all")

    with Qmp(serve(script)) as qmp:
        with pytest.raises(QmpCommandError, match=r"refused cont: not now"):
            qmp.execute("cont")
        assert qmp.execute("cont") == "after all"


@pytest.mark.parametrize(
    "script",
    [
        lambda peer: None,
        lambda peer: peer.send(GREETING),
        lambda peer: peer.raw(b'{"QMP": '),
    ],
    ids=["nothing", "no answer", "half a line"],
)
def test_a_silent_peer_times_out(serve: Callable[[Script], Path], script: Script) -> None:
    begin = time.monotonic()
    with not_waiting_for(2), pytest.raises(QmpTimeoutError):
        Qmp(serve(script), timeout_s=0.3)
    assert time.monotonic() - begin > 0.25


def test_a_flood_of_events_does_not_extend_the_timeout(serve: Callable[[Script], Path]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            peer.send(*[EVENT] * 100)

    with Qmp(serve(script)) as qmp, not_waiting_for(2), pytest.raises(QmpTimeoutError):
        qmp.execute("query-status", 0.3)


@pytest.mark.parametrize(
    "response",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff\xfe\x00\n", b"[]\n", b"{}\n", b'{"QMP": 3}\n', b"\n"],
    ids=["ssh", "bytes", "list", "empty", "wrong", "blank"],
)
def test_an_invalid_response_is_an_error(serve: Callable[[Script], Path], response: bytes) -> None:
    with pytest.raises(QmpError):
        Qmp(serve(lambda peer: peer.raw(response)))


def test_a_line_without_end_is_refused(serve: Callable[[Script], Path]) -> None:
    def script(peer: Peer) -> None:
        while True:
            peer.raw(b"x" * 65536)

    with pytest.raises(QmpError, match="is too long"):
        Qmp(serve(script), timeout_s=10)


def test_a_closed_connection_is_reported(serve: Callable[[Script], Path]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.question()
        peer.connection.shutdown(socket.SHUT_RDWR)

    with Qmp(serve(script)) as qmp, pytest.raises(QmpError, match="closed"):
        qmp.execute("query-status")


def test_a_missing_or_stale_socket_is_not_a_timeout(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(stale))
    for path in (tmp_path / "absent.sock", stale):
        with pytest.raises(QmpError) as caught:
            Qmp(path)
        assert not isinstance(caught.value, QmpTimeoutError)


def test_a_job_is_followed_to_its_end_and_dismissed(serve: Callable[[Script], Path]) -> None:
    executed: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet()
        job = peer.answer({})["arguments"]["job-id"]
        other = {"id": "other", "status": "concluded", "error": "not ours"}
        for status in ("running", "concluded"):
            peer.answer([other, {"id": job, "status": status}])
        dismissal = peer.question()
        executed.append(dismissal["execute"])
        peer.send({"return": {}, "id": dismissal["id"]})

    with Qmp(serve(script)) as qmp:
        qmp.run_job("snapshot-save", 5, tag="x")
    assert executed == ["job-dismiss"]


def test_a_failed_job_raises_its_error(serve: Callable[[Script], Path]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        job = peer.answer({})["arguments"]["job-id"]
        peer.answer([{"id": job, "status": "concluded", "error": "No space left on device"}])
        peer.answer({})

    with Qmp(serve(script)) as qmp, pytest.raises(QmpCommandError, match="No space left"):
        qmp.run_job("snapshot-save", 5)


def test_a_job_without_end_times_out(serve: Callable[[Script], Path]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        job = peer.answer({})["arguments"]["job-id"]
        while True:
            peer.answer([{"id": job, "status": "running"}])

    with Qmp(serve(script)) as qmp, pytest.raises(WaitTimeoutError):
        qmp.run_job("snapshot-save", 0.3)
