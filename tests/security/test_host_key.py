"""A guest is trusted only with the host key that was created for it (case L8)."""

from pathlib import Path

import pytest

from b2d.cli import main
from b2d.errors import B2dError
from b2d.guest.ssh import keys
from b2d.host.files import private_folder
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import DockerEnv
from b2d.paths import Home, MachinePaths
from tests.support.fakes import a_spec


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    machine_paths = MachinePaths(private_folder(tmp_path / "box"))
    keys.ensure_host(machine_paths)
    return machine_paths


def test_known_hosts_is_derived_from_the_host_key(paths: MachinePaths) -> None:
    before = paths.known_hosts.read_bytes()
    paths.known_hosts.unlink()
    keys.ensure_known(paths)
    assert paths.known_hosts.read_bytes() == before
    assert paths.known_hosts.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"no host\n", b"b2d-box ssh-ed25519 AAAA\n", b"\xff"])
def test_a_damaged_known_hosts_is_recreated_from_the_host_key(paths: MachinePaths, content: bytes) -> None:
    before = paths.known_hosts.read_bytes()
    paths.known_hosts.write_bytes(content)
    keys.ensure_known(paths)
    assert paths.known_hosts.read_bytes() == before


def test_a_dangling_symlink_is_replaced_and_not_followed(paths: MachinePaths, tmp_path: Path) -> None:
    paths.known_hosts.unlink()
    paths.known_hosts.symlink_to(tmp_path / "elsewhere")
    keys.ensure_known(paths)
    assert not paths.known_hosts.is_symlink() and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", [b"", b"no key"])
def test_without_a_valid_host_key_there_is_no_known_hosts(paths: MachinePaths, content: bytes) -> None:
    paths.known_hosts.unlink()
    paths.host_key.write_bytes(content)
    with pytest.raises(B2dError, match="is not a usable key"):
        keys.ensure_known(paths)
    paths.host_key.unlink()
    with pytest.raises(B2dError) as failure:
        keys.ensure_known(paths)
    assert failure.value.hint == "b2d restart --vm box"
    assert not paths.known_hosts.exists()


def test_ssh_config_recreates_the_known_hosts_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home")
    paths = home.machine("boot2docker-vm")
    MachineStore(home).write(a_spec())
    keys.ensure_host(paths)
    before = paths.known_hosts.read_bytes()
    paths.known_hosts.unlink()
    monkeypatch.setenv("B2D_HOME", str(home.root))
    monkeypatch.setenv("B2D_DRIVER", "qemu")
    facts = RunningFacts("127.0.59.103", 2022, 2376, DockerEnv("tcp://127.0.59.103:2376", ""))
    monkeypatch.setattr("b2d.machine.lifecycle.Machine.facts", lambda _self: facts)
    assert main._run(["ssh-config"]) == 0
    assert str(paths.known_hosts) in capsys.readouterr().out
    assert paths.known_hosts.read_bytes() == before
