"""The first login to a guest that made its own host key and admits boot2docker's password."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from b2d.errors import B2dError, GuestUnreachableError, InvalidStateError
from b2d.guest.ssh import first_login, keys
from b2d.guest.ssh.client import SshGuest
from b2d.models import Endpoint
from b2d.paths import MachinePaths
from tests.support.ssh_server import Sshd

GIVEN = [("docker", b"tcuser")]


@pytest.fixture(params=["ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519"])
def stranger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sshd]:
    """Start a server with a host key of its own, of each type, that admits no key."""
    new_key: dict[str, Callable[[], paramiko.PKey]] = {
        "ssh-rsa": lambda: paramiko.RSAKey.generate(2048),
        "ecdsa-sha2-nistp256": paramiko.ECDSAKey.generate,
        "ssh-ed25519": lambda: _ed25519(tmp_path / "own"),
    }
    with Sshd(new_key[request.param](), b"", password="tcuser").running() as server:
        yield server


def _ed25519(folder: Path) -> paramiko.PKey:
    folder.mkdir()
    keys.ensure_host(MachinePaths(folder))
    return paramiko.Ed25519Key.from_private_key_file(str(MachinePaths(folder).host_key))


def unknown(sshd: Sshd, paths: MachinePaths) -> SshGuest:
    return SshGuest(Endpoint("127.0.0.1", sshd.port, 0), paths, None, first_login.connect)


def known(sshd: Sshd, paths: MachinePaths) -> SshGuest:
    return SshGuest(Endpoint("127.0.0.1", sshd.port, 0), paths)


def test_the_password_lets_in_and_the_host_key_is_recorded(stranger: Sshd, paths: MachinePaths) -> None:
    with unknown(stranger, paths) as guest:
        assert guest.run("echo there", 10).stdout == b"there\n"
    assert [user for user, _ in stranger.tried] == ["docker", "docker"]
    assert stranger.tried[-1:] == GIVEN
    line = f"b2d-box {stranger.host_key.get_name()} {stranger.host_key.get_base64()}"
    assert line in paths.known_hosts.read_text().splitlines()
    assert paths.known_hosts.stat().st_mode & 0o777 == 0o600


def test_the_host_key_is_checked_from_then_on(stranger: Sshd, paths: MachinePaths) -> None:
    with unknown(stranger, paths) as guest:
        guest.run("true", 10)
    own_key = paramiko.Ed25519Key.from_private_key_file(str(paths.ssh_key))
    stranger.lets_in, stranger.password = own_key.asbytes(), ""
    with known(stranger, paths) as guest:
        assert guest.run("echo there", 10).stdout == b"there\n"
    stranger.tried.clear()
    stranger.host_key = paramiko.ECDSAKey.generate()
    for connect in (known, unknown):
        with connect(stranger, paths) as guest, pytest.raises(B2dError, match="host key differs") as caught:
            guest.run("true", 10)
        assert caught.value.hint == f"if its guest made a new key: rm {paths.pinned_host_key} && b2d restart --vm box"
    assert stranger.tried == []
    paths.pinned_host_key.unlink()
    stranger.password = "tcuser"
    with unknown(stranger, paths) as guest:
        assert guest.run("echo new", 10).stdout == b"new\n"


def test_an_ordinary_connection_never_sends_the_password(stranger: Sshd, paths: MachinePaths) -> None:
    with known(stranger, paths) as guest, pytest.raises(B2dError, match="host key differs"):
        guest.run("true", 10)
    assert stranger.tried == []
    assert not paths.pinned_host_key.exists()


def test_the_machine_s_own_host_key_is_still_accepted(stranger: Sshd, sshd: Sshd, paths: MachinePaths) -> None:
    """A machine may go back to b2d's image, whose guest gets its host key from this host."""
    with unknown(stranger, paths) as guest:
        guest.run("true", 10)
    with known(sshd, paths) as guest:
        assert guest.run("echo own", 10).stdout == b"own\n"


def test_a_guest_that_refuses_key_and_password_is_not_recorded(stranger: Sshd, paths: MachinePaths) -> None:
    stranger.password = "other"
    with (
        unknown(stranger, paths) as guest,
        pytest.raises(InvalidStateError, match="neither the machine's key nor the password"),
    ):
        guest.run("true", 10)
    assert not paths.pinned_host_key.exists()


def test_a_server_that_does_not_answer_is_reported_as_unreachable(paths: MachinePaths) -> None:
    guest = SshGuest(Endpoint("127.0.0.1", 9, 0), paths, None, first_login.connect)
    with pytest.raises(GuestUnreachableError):
        guest.run("true", 10)


def test_openssh_reads_the_recorded_key(stranger: Sshd, paths: MachinePaths) -> None:
    with unknown(stranger, paths) as guest:
        guest.run("true", 10)
    search = subprocess.run(["ssh-keygen", "-F", "b2d-box", "-f", paths.known_hosts], capture_output=True, check=True)
    assert stranger.host_key.get_base64() in search.stdout.decode()
