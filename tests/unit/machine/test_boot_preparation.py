"""Files and ports that a machine gets before it boots."""

import socket
import tarfile
from pathlib import Path

import pytest

from b2d.errors import B2dError, MachineLockedError
from b2d.host.files import private_folder
from b2d.machine.boot_preparation import (
    credentials,
    ensure_ssh_keys,
    free_ports,
    hostname,
    pending_image,
    store_new_spec,
    with_trial_image,
)
from b2d.machine_store.store import MachineStore
from b2d.models import Access
from b2d.paths import Home, MachinePaths
from tests.support.fake_machine import ADDRESS, DOCKER, SSH
from tests.support.fakes import FakeImages, FakeReporter, a_spec

SPEC = a_spec("box", address=ADDRESS, ssh_port=SSH, docker_port=DOCKER)


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    return MachinePaths(tmp_path / "machines" / "box")


def read_seed(paths: MachinePaths) -> dict[str, bytes]:
    with tarfile.open(paths.seed) as seed:
        return {member.name: file.read() for member in seed if (file := seed.extractfile(member)) is not None}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("boot2docker-vm", "boot2docker"), ("box", "box"), ("My_Box.2", "my-box-2"), ("a-vm", "a"), ("1.", "1")],
)
def test_the_guest_is_named_after_its_machine(name: str, expected: str) -> None:
    assert hostname(name) == expected


def test_each_machine_of_a_home_has_its_own_address(tmp_path: Path) -> None:
    store = MachineStore(Home(tmp_path))
    first = store_new_spec(a_spec("first", address=""), store)
    assert first.address.startswith("127.0.59.")
    assert store.read("first") == first
    assert store_new_spec(a_spec("second", address=""), store).address not in (first.address, "")
    assert store_new_spec(a_spec("first", address=""), store).address == first.address
    assert store_new_spec(a_spec("third", address="127.0.0.1"), store).address == "127.0.0.1"


def test_concurrent_address_allocation_waits_and_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2d.machine_store.store.LOCK_WAIT_S", 0.1)
    store = MachineStore(Home(tmp_path))
    with store.allocation_lock(), pytest.raises(MachineLockedError, match="another b2d is creating a machine"):
        store_new_spec(a_spec("second", address=""), store)
    assert store.names() == []


def test_free_ports_are_unchanged(paths: MachinePaths) -> None:
    reporter = FakeReporter()
    assert free_ports(SPEC, [], reporter) == SPEC
    assert reporter.messages == []


def test_a_port_in_use_is_replaced_and_that_is_reported() -> None:
    reporter = FakeReporter()
    with socket.create_server((ADDRESS, SSH)):
        spec = free_ports(SPEC, [], reporter)
    assert (spec.ssh_port, spec.docker_port) == (SSH + 1, DOCKER)
    assert reporter.texts("note") == [f"port {SSH} of {ADDRESS} is in use: the ssh port of box is now {SSH + 1}"]


def test_a_new_ssh_port_differs_from_the_port_of_docker() -> None:
    spec = a_spec("box", address=ADDRESS, ssh_port=SSH, docker_port=SSH + 1)
    with socket.create_server((ADDRESS, SSH)):
        spec = free_ports(spec, [], FakeReporter())
    assert (spec.ssh_port, spec.docker_port) == (SSH + 2, SSH + 1)


def test_one_port_for_ssh_and_docker_becomes_two() -> None:
    spec = free_ports(a_spec("box", address=ADDRESS, ssh_port=SSH, docker_port=SSH), [], FakeReporter())
    assert spec.ssh_port != spec.docker_port


def test_only_machines_at_the_same_address_reserve_ports() -> None:
    near = a_spec("near", address=ADDRESS, ssh_port=SSH, docker_port=DOCKER)
    far = a_spec("far", address="127.0.59.200", ssh_port=SSH + 1, docker_port=DOCKER + 1)
    spec = free_ports(SPEC, [near, far], FakeReporter())
    assert (spec.ssh_port, spec.docker_port) == (SSH + 1, DOCKER + 1)


def test_the_seed_contains_the_identity_of_the_guest(paths: MachinePaths) -> None:
    credentials(SPEC, paths, Access())
    seed = read_seed(paths)
    assert seed["hostname"] == b"box\n"
    assert seed["authorized_keys"] == paths.ssh_public_key.read_bytes()
    assert seed["host_ed25519"] == paths.host_key.read_bytes()
    assert seed["tls/ca.pem"] == (paths.certs / "ca.pem").read_bytes()
    assert seed["settings"] == b"B2D_TLS=yes\nB2D_SSH_PASSWORD=no\nB2D_HOST_LOOPBACK=yes\n"
    assert paths.seed.stat().st_mode & 0o777 == 0o600


def test_without_tls_no_certificate_is_made(paths: MachinePaths) -> None:
    credentials(a_spec("box", tls=False), paths, Access())
    assert not paths.certs.exists()
    assert [name for name in read_seed(paths) if name.startswith("tls")] == []


def test_existing_credentials_stay_and_missing_ones_are_recreated(paths: MachinePaths) -> None:
    credentials(SPEC, paths, Access())
    key, public = paths.ssh_key.read_bytes(), paths.ssh_public_key.read_bytes()
    host = paths.host_key.read_bytes()
    for path in (paths.ssh_public_key, paths.known_hosts, paths.seed, paths.certs / "cert.pem"):
        path.unlink()
    credentials(SPEC, paths, Access())
    assert (paths.ssh_key.read_bytes(), paths.ssh_public_key.read_bytes()) == (key, public)
    assert paths.host_key.read_bytes() == host
    assert all(path.exists() for path in (paths.known_hosts, paths.seed, paths.certs / "cert.pem"))


def test_an_os_error_is_reported_with_its_path(paths: MachinePaths) -> None:
    private_folder(paths.folder)
    (paths.folder / "authority").write_text("a file in the way")
    with pytest.raises(B2dError, match="authority"):
        credentials(SPEC, paths, Access())
    private_folder(paths.folder.parent / "other")
    (paths.folder.parent / "other" / "id_ed25519.pub").mkdir()
    with pytest.raises(B2dError, match=r"id_ed25519\.pub"):
        ensure_ssh_keys(MachinePaths(paths.folder.parent / "other"))


def test_a_pending_image_is_a_newer_one_of_the_same_source() -> None:
    images = FakeImages({"0" * 64: "debian", "2" * 64: "boot2docker"})
    assert pending_image(SPEC, images) is None
    images.sources["1" * 64] = "debian"
    assert pending_image(SPEC, images) == images.get("1" * 64)
    assert pending_image(a_spec("box", refused="1" * 64), images) is None
    images.sources["3" * 64] = "debian"
    assert pending_image(a_spec("box", refused="1" * 64), images) == images.get("3" * 64)
    images.sources.clear()
    assert pending_image(SPEC, images) is None


def test_returning_from_a_failed_image_leaves_no_previous_image() -> None:
    images = FakeImages({"0" * 64: "debian", "1" * 64: "debian"})
    failed = with_trial_image(SPEC, images.get("1" * 64))
    assert (failed.image, failed.previous, failed.trial) == ("1" * 64, "0" * 64, True)
    again = with_trial_image(failed, images.get("0" * 64))
    assert (again.image, again.previous) == ("0" * 64, "")
