"""The owner of a connection is asked of this host; without an answer the connection is refused."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from b2d.host_agent import peer, sock_diag


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_this_host_identifies_peers(platform: str) -> None:
    assert peer.can_identify(platform)


def test_a_host_with_an_unreadable_proc_cannot_identify_peers_and_refuses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "PROC", tmp_path)
    monkeypatch.setattr(sock_diag, "_is_available", lambda: False)
    assert not peer.can_identify("linux")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").mkdir()  # reading it is a system error
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert not peer.is_owner(connection, "linux")


def test_a_host_that_cannot_listen_cannot_identify_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError

    monkeypatch.setattr(socket, "create_server", refuse)
    assert not peer.can_identify()


@pytest.mark.needs("linux")
def test_a_foreign_program_with_an_undecodable_name_does_no_harm() -> None:
    named = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", named]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        assert Path(f"/proc/{other.pid}/comm").read_bytes() == b"\xff\xfe\n"
        assert peer.can_identify("linux")
        other.kill()
