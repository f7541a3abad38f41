"""The guest over SSH: identity, transferred data, and timeouts."""

import os
import pty
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paramiko import Channel, Ed25519Key, RSAKey

from b2d.errors import B2dError, InvalidStateError, WaitTimeoutError
from b2d.guest.ssh import client, connection, keys
from b2d.guest.ssh.client import SshGuest, command_line
from b2d.host.polling import wait_until
from b2d.models import CommandResult, Endpoint
from b2d.paths import MachinePaths
from tests.support.ssh_server import Sshd
from tests.support.timing import not_waiting_for

TEN_MB = 10_000_000


@pytest.fixture
def guest(sshd: Sshd, paths: MachinePaths) -> Iterator[SshGuest]:
    with SshGuest(Endpoint("127.0.0.1", sshd.port, 2376), paths) as connected:
        yield connected


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECT_S", "HANDSHAKE_S", "GREETING_S", "ANSWER_S"):
        monkeypatch.setattr(connection, name, 0.5)
    for name in ("ANSWER_S", "FILE_S"):
        monkeypatch.setattr(client, name, 0.5)


def foreign_key(tmp_path: Path) -> Ed25519Key:
    """Return the host key of another machine."""
    folder = tmp_path / "other"
    folder.mkdir()
    keys.ensure_host(MachinePaths(folder))
    return Ed25519Key.from_private_key_file(str(MachinePaths(folder).host_key))


# received data


def test_the_output_of_a_command_is_delivered_while_it_runs(guest: SshGuest, tmp_path: Path) -> None:
    came: list[bytes] = []

    def on_output(piece: bytes) -> None:
        came.append(piece)
        if b"first" in piece:
            (tmp_path / "heard").touch()

    wait = f"while ! [ -e {tmp_path}/heard ]; do sleep 0.05; done"
    assert guest.follow(f"echo first; {wait}; echo then; echo error >&2; exit 3", on_output) == 3
    assert b"error\n" in b"".join(came)  # two streams have no common order
    assert b"".join(came).replace(b"error\n", b"") == b"first\nthen\n"


def test_a_connection_that_ends_before_the_command_is_reported(guest: SshGuest, sshd: Sshd) -> None:
    sshd.hangs_up = "output"
    with pytest.raises(InvalidStateError, match="the connection to the guest broke"):
        guest.follow("echo never", lambda _: None)


# identity


def test_a_wrong_host_key_is_refused_before_authentication(guest: SshGuest, sshd: Sshd, tmp_path: Path) -> None:
    sshd.host_key = foreign_key(tmp_path)
    with pytest.raises(B2dError, match="is not this machine: its host key differs") as caught:
        guest.run("true", 10)
    assert caught.value.hint == "b2d restart --vm box"
    assert sshd.tried == []
    assert sshd.connections == 1


def test_a_host_key_of_another_type_is_refused(guest: SshGuest, sshd: Sshd) -> None:
    sshd.host_key = RSAKey.generate(2048)
    with pytest.raises(B2dError, match="is not this machine"):
        guest.run("true", 10)
    assert sshd.tried == []


def test_every_connection_is_checked(guest: SshGuest, sshd: Sshd, tmp_path: Path) -> None:
    assert guest.run("true", 10).exit_code == 0
    guest.close()
    sshd.host_key = foreign_key(tmp_path)
    with pytest.raises(B2dError, match="is not this machine"):
        guest.run("true", 10)


def test_a_lost_known_hosts_is_recreated_from_the_host_key(
    guest: SshGuest, sshd: Sshd, paths: MachinePaths, tmp_path: Path
) -> None:
    before = paths.known_hosts.read_bytes()
    paths.known_hosts.unlink()
    assert guest.run("true", 10).exit_code == 0
    assert paths.known_hosts.read_bytes() == before
    guest.close()
    paths.known_hosts.unlink()
    sshd.host_key = foreign_key(tmp_path)
    with pytest.raises(B2dError, match="is not this machine"):
        guest.run("true", 10)
    assert (sshd.tried[1:], paths.known_hosts.read_bytes()) == ([], before)


def test_a_guest_with_an_unknown_host_key_is_refused(guest: SshGuest, sshd: Sshd, paths: MachinePaths) -> None:
    for path in (paths.known_hosts, paths.host_key):
        path.unlink()
    with pytest.raises(B2dError, match="the guest's host key is unknown") as caught:
        guest.run("true", 10)
    assert caught.value.hint == "b2d restart --vm box"
    assert sshd.tried == [] and not paths.known_hosts.exists()


@pytest.mark.parametrize(
    "content", [b"", b"no host\n", b"b2d-box ssh-ed25519 !\n", b"b2d-box ssh-ed25519 AAAA\n", b"\xff"]
)
def test_a_damaged_known_hosts_without_a_host_key_trusts_no_guest(
    guest: SshGuest, sshd: Sshd, paths: MachinePaths, content: bytes
) -> None:
    paths.known_hosts.write_bytes(content)
    paths.host_key.unlink()
    with pytest.raises(B2dError):
        guest.run("true", 10)
    assert sshd.tried == []
    assert paths.known_hosts.read_bytes() == content


def test_only_the_key_of_the_machine_is_offered(
    guest: SshGuest, sshd: Sshd, paths: MachinePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's agent, keys and ~/.ssh/config are ignored."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text("Host *\n  Port 1\n  User nobody\n  ProxyCommand false\n")
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {RSAKey.generate(2048).get_base64()}\n")
    theirs = MachinePaths(home)
    keys.ensure_client(theirs)
    theirs.ssh_key.rename(home / ".ssh" / "id_ed25519")
    socket_path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(socket_path))
        agent.listen()
        agent.settimeout(0)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
        assert guest.run("true", 10).exit_code == 0
        with pytest.raises(BlockingIOError):
            agent.accept()
    own = Ed25519Key.from_private_key_file(str(paths.ssh_key))
    assert sshd.tried == [("docker", own.asbytes())]


def test_a_guest_that_refuses_the_key_is_reported_at_once(guest: SshGuest, sshd: Sshd) -> None:
    sshd.lets_in = b"another"
    with pytest.raises(InvalidStateError, match=r"does not accept the key .*id_ed25519"):
        guest.run("true", 10)
    assert len(sshd.tried) == 1


def test_a_missing_or_damaged_key_is_reported(guest: SshGuest, sshd: Sshd, paths: MachinePaths) -> None:
    paths.ssh_key.write_bytes(b"no key")
    with pytest.raises(B2dError, match=r"box/id_ed25519 is not a usable key"):
        guest.run("true", 10)
    paths.ssh_key.unlink()
    with pytest.raises(B2dError, match=r"box/id_ed25519, the key of the guest, is missing"):
        guest.run("true", 10)
    assert sshd.connections == 0


# timeouts


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("way", [{"silent": True}, {"hangs_up": "banner"}, {"hangs_up": "auth"}, {"mute": "auth"}])
def test_an_unresponsive_ssh_server_times_out(guest: SshGuest, sshd: Sshd, way: dict[str, object]) -> None:
    for name, value in way.items():
        setattr(sshd, name, value)
    with not_waiting_for(8), pytest.raises(InvalidStateError) as caught:
        guest.run("true", 10)
    assert f"127.0.0.1:{sshd.port}" in caught.value.message


@pytest.mark.usefixtures("impatient")
def test_an_unreachable_guest_is_reported_with_the_reason(paths: MachinePaths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InvalidStateError, match=f"cannot be reached by ssh at 127.0.0.1:{port}") as caught:
        SshGuest(Endpoint("127.0.0.1", port, 0), paths).run("true", 10)
    assert "refused" in caught.value.details


def test_a_starting_ssh_server_is_waited_for(guest: SshGuest, sshd: Sshd) -> None:
    sshd.hangs_up = "banner"
    threading.Timer(1, lambda: setattr(sshd, "hangs_up", "")).start()
    assert guest.run("echo there", 10).stdout == b"there\n"
    assert sshd.connections > 1


def test_a_slow_ssh_server_gets_more_time(guest: SshGuest, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.3)
    sshd.greets_after_s = 1.5
    assert guest.run("echo there", 10).stdout == b"there\n"
    assert sshd.connections == 3  # 0.3, 0.9, 2.7 s


@pytest.mark.usefixtures("impatient")
def test_a_command_that_never_starts_times_out(guest: SshGuest, sshd: Sshd) -> None:
    sshd.mute = "exec"
    with pytest.raises(WaitTimeoutError, match="stopped answering"):
        guest.run("true", 10)


@pytest.mark.parametrize(
    "command", ["sleep 60", "echo noise >&2; sleep 60", "yes", "yes >&2", "exec >&- 2>&-; sleep 60"]
)
def test_a_command_that_does_not_end_times_out(
    guest: SshGuest, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with not_waiting_for(10), pytest.raises(WaitTimeoutError, match="did not end within 1 s"):
        guest.run(command, 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("where", ["output", "exit"])
def test_a_broken_connection_is_not_an_exit_code(guest: SshGuest, sshd: Sshd, where: str) -> None:
    sshd.hangs_up = where
    with pytest.raises(InvalidStateError, match="the connection to the guest broke"):
        guest.run("echo some", 10)
    sshd.hangs_up = ""
    assert guest.run("echo again", 10).stdout == b"again\n"


# transferred data


def test_a_command_on_a_terminal_may_end_before_its_output_is_read(
    guest: SshGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = client._begin

    def begin_and_end(channel: Channel, command: str | None) -> None:
        begin(channel, command)
        wait_until(lambda: channel.closed, condition="its end", timeout_s=10)

    monkeypatch.setattr(client, "_begin", begin_and_end)
    screen, line = pty.openpty()
    with os.fdopen(line, "r+b", buffering=0) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr("sys.stdout", terminal)
        assert guest.run_in_pty("echo quick; exit 3") == 3
        assert os.read(screen, 100) == b"quick\n"
    os.close(screen)


def test_output_and_exit_code_of_a_command_are_returned(guest: SshGuest) -> None:
    assert guest.run("echo out; echo err >&2; exit 7", 10) == CommandResult(7, b"out\n", b"err\n")


def test_a_command_has_an_empty_stdin(guest: SshGuest) -> None:
    assert guest.run("cat; echo end", 10).stdout == b"end\n"


def test_several_commands_share_one_connection(guest: SshGuest, sshd: Sshd) -> None:
    for number in range(3):
        assert guest.run(f"echo {number}", 10).stdout == f"{number}\n".encode()
    assert sshd.connections == 1


def test_a_command_killed_by_a_signal_exits_with_255(guest: SshGuest, sshd: Sshd) -> None:
    assert guest.run("kill -9 $$", 10).exit_code == 255
    sshd.exit_code = False
    assert guest.run("true", 10).exit_code == 255


def test_large_output_on_both_streams_is_complete(guest: SshGuest) -> None:
    result = guest.run(f"head -c {TEN_MB} /dev/zero & head -c {TEN_MB} /dev/zero >&2; wait", 60, TEN_MB)
    assert (len(result.stdout), len(result.stderr)) == (TEN_MB, TEN_MB)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_arguments_are_passed_exactly(arguments: list[str]) -> None:
    line = command_line(["printf", "%s\\0", *arguments])
    stdout = subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout
    assert stdout == "".join(f"{argument}\0" for argument in arguments).encode()


def test_a_single_argument_is_a_shell_command_line() -> None:
    assert command_line(["echo $HOME; date"]) == "echo $HOME; date"
