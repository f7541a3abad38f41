"""SSH keys: created once, never replaced, and readable by OpenSSH."""

import stat
import subprocess
from pathlib import Path

import pytest

from b2d.errors import B2dError
from b2d.guest.ssh import keys
from b2d.paths import MachinePaths


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    folder = tmp_path / "box"
    folder.mkdir()
    return MachinePaths(folder)


def test_ssh_keygen_accepts_the_new_key_pair(paths: MachinePaths) -> None:
    keys.ensure_client(paths)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", paths.ssh_key], capture_output=True, check=True).stdout
    assert derived.split()[:2] == paths.ssh_public_key.read_bytes().split()[:2]
    assert stat.S_IMODE(paths.ssh_key.stat().st_mode) == 0o600


def test_existing_keys_are_not_replaced(paths: MachinePaths) -> None:
    keys.ensure_client(paths)
    before = paths.ssh_key.read_bytes()
    paths.ssh_public_key.unlink()
    keys.ensure_client(paths)
    assert paths.ssh_key.read_bytes() == before
    assert paths.ssh_public_key.exists()


def test_known_hosts_contains_the_name_of_the_machine(paths: MachinePaths) -> None:
    keys.ensure_host(paths)
    completed = subprocess.run(
        ["ssh-keygen", "-F", "b2d-box", "-f", paths.known_hosts], capture_output=True, check=True
    ).stdout
    derived = subprocess.run(["ssh-keygen", "-y", "-f", paths.host_key], capture_output=True, check=True).stdout
    assert derived.split()[1] in completed


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nxx\n"])
def test_a_broken_key_is_reported_and_not_replaced(paths: MachinePaths, content: bytes) -> None:
    paths.ssh_key.write_bytes(content)
    with pytest.raises(B2dError, match="id_ed25519"):
        keys.ensure_client(paths)
    assert paths.ssh_key.read_bytes() == content
