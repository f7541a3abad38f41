"""The control port of a guest, whatever the peer does."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from b2d.drivers import control_port
from b2d.errors import B2dError
from tests.support.serial_peer import guest
from tests.support.timing import not_waiting_for


def test_the_guest_is_asked_to_move_its_clock_and_confirms_it(tmp_path: Path) -> None:
    path = tmp_path / "line.sock"
    with guest(path, [b"noise mo", b"ved\n"]) as received:
        control_port.move_clock(path, -3600)
    assert received == [b"\nmove -3600\n"]


def test_a_guest_that_closes_the_connection_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "line.sock"
    with (
        guest(path, [b"mov"]),
        pytest.raises(B2dError, match="does not answer on its control port: the connection"),
    ):
        control_port.move_clock(path, 1)


def test_a_silent_guest_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_port, "ANSWER_S", 0.1)
    path = tmp_path / "line.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(B2dError, match="does not answer on its control port"):
            control_port.move_clock(path, 1)


@contextmanager
def endless_guest(path: Path, response: bytes, pause_s: float) -> Iterator[None]:
    """Serve a guest that repeats the same data, for five seconds at most; the block must not wait for the end."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def talk() -> None:
            line, _ = server.accept()
            end = time.monotonic() + 5
            with line, suppress(OSError):
                while time.monotonic() < end:
                    line.sendall(response)
                    time.sleep(pause_s)

        thread = threading.Thread(target=talk)
        thread.start()
        with not_waiting_for(4):
            yield
        thread.join()


def test_a_guest_that_sends_single_bytes_times_out(tmp_path: Path) -> None:
    path = tmp_path / "line.sock"
    with endless_guest(path, b"x", 0), pytest.raises(B2dError, match="timed out"):
        control_port.ask(path, "x", "done", 0.3)


def test_a_guest_that_sends_without_end_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_port, "ANSWER_S", 0.3)
    path = tmp_path / "line.sock"
    with (
        endless_guest(path, b"login: ", 0.05),
        pytest.raises(B2dError, match="does not answer on its control port: timed out"),
    ):
        control_port.move_clock(path, 1)


def test_a_machine_without_a_control_socket_is_reported(tmp_path: Path) -> None:
    with pytest.raises(B2dError, match="does not answer on its control port"):
        control_port.move_clock(tmp_path / "line.sock", 1)
