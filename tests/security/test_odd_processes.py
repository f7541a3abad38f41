"""Names, hidden state and number of other processes neither open nor block the agent."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from b2d.host_agent import peer, sock_diag
from b2d.host_agent.peer import is_owner
from tests.support.timing import cpu_limit

HERE = "127.0.0.1"
OTHER = 12345  # a uid without a user
PYTHON = "/usr/bin/python3"
NAMED = "import ctypes, socket, sys, time; c = ctypes.CDLL(None); c.prctl(15, {name!r}, 0, 0, 0); "
HIDDEN = "c.prctl(4, 0, 0, 0, 0); "  # as a setuid process
CONNECTS = "s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
WAITS = "print('!', flush=True); time.sleep(60)"
AS_OTHER = """
import encodings.idna, os, socket, subprocess, sys
sys.path[:0] = {path!r}
from b2d.host_agent.peer import is_owner
os.setgroups([]), os.setgid({uid}), os.setuid({uid})
with socket.create_server(("127.0.0.1", 0)) as listener:
    for script in {scripts!r}:
        process = subprocess.Popen(["/usr/bin/python3", "-c", script, str(listener.getsockname()[1])], stdout=-1)
        connection, _ = listener.accept()
        process.stdout.readline()
        print(is_owner(connection), flush=True)
        process.kill(), process.wait()
"""
pytestmark = pytest.mark.needs("linux")


@contextmanager
def run_as(script: str, *arguments: str, uid: int | None = None) -> Iterator[None]:
    """Run a program as that user, and yield once it has printed a line."""
    command = [PYTHON, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, user=uid, group=uid, extra_groups=[]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield
        finally:
            process.kill()


@contextmanager
def open_connection() -> Iterator[socket.socket]:
    with socket.create_server((HERE, 0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            yield connection


@pytest.mark.parametrize("asks", [True, False], ids=["netlink", "proc"])
def test_an_undecodable_process_name_does_not_block_the_owner(asks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux cuts a name after 15 bytes, also within a character."""
    if not asks:
        monkeypatch.setattr(sock_diag, "_is_available", lambda: False)
    with run_as(NAMED.format(name=b"caf\xc3") + WAITS, uid=OTHER), open_connection() as connection:
        assert is_owner(connection)


def verdicts(*scripts: str) -> list[str]:
    """Return the verdicts of a non-root agent on programs of that user."""
    code = AS_OTHER.format(path=sys.path, uid=OTHER, scripts=scripts)
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return completed.stdout.split()


def test_a_hypervisor_with_hidden_descriptors_is_not_a_program_of_its_user() -> None:
    """VirtualBox's programs are setuid, so their user cannot see their descriptors."""
    carrier = NAMED.format(name=b"VBoxHeadless")
    assert verdicts(carrier + CONNECTS + WAITS, carrier + HIDDEN + CONNECTS + WAITS) == ["False", "False"]


def test_programs_of_the_user_are_accepted_beside_a_hidden_hypervisor() -> None:
    hidden = NAMED.format(name=b"VBoxHeadless") + HIDDEN + WAITS
    with run_as(hidden, uid=OTHER):
        assert verdicts(NAMED.format(name=b"docker") + CONNECTS + WAITS) == ["True"]
        assert verdicts(NAMED.format(name=b"docker") + HIDDEN + CONNECTS + WAITS) == ["False"]  # the owner is unknown


def test_a_wrapped_hypervisor_is_recognised() -> None:
    """NixOS renames the programs this way."""
    assert verdicts(NAMED.format(name=b".qemu-system-x8") + CONNECTS + WAITS) == ["False"]


def test_identification_is_fast_with_many_connections_of_other_users() -> None:
    many = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2)
with socket.create_server(("127.0.0.1", 0)) as listener:
    kept = [(socket.create_connection(listener.getsockname()), listener.accept()) for _ in range(3000)]
    """
    script = f"import socket, sys, time\n{many}{WAITS}"
    with run_as(script, uid=OTHER), open_connection() as connection:
        ends = connection.getpeername(), connection.getsockname()
        with cpu_limit(1):  # reading the table alone takes as long as all of these
            assert all(sock_diag.find(*ends) for _ in range(100))


@pytest.mark.parametrize("family", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_netlink_and_proc_agree(family: str) -> None:
    with socket.create_server((HERE, 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((family, port)), listener.accept()[0] as connection:
            ends = connection.getpeername(), connection.getsockname()
            assert sock_diag.find(*ends) == peer._row_of_proc(*ends) is not None
        assert sock_diag.find((HERE, port), (HERE, 1)) is None  # the listener is no connection
    left = sock_diag.find(*ends)
    assert left is None or left.inode == 0


def test_proc_is_used_without_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sock_diag, "_is_available", lambda: False)
    with open_connection() as connection:
        assert is_owner(connection)
