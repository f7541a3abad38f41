"""A guest that reads no seed disk: what it is given, and when."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from b2d.errors import B2dError
from b2d.guest.base import Pipe
from b2d.guest.ssh import keys
from b2d.host.files import private_folder
from b2d.machine import foreign_guest
from b2d.machine.foreign_guest import AUTHORITIES, MARK, RESTART, TRUST, profile_block, set_up, with_block
from b2d.models import CommandResult, Endpoint, ProcessIdentity
from b2d.network import port_allocation
from b2d.paths import MachinePaths
from tests.support.fake_machine import Box, FakeServices
from tests.support.fakes import FakeDriver, FakeGuest, a_spec

BLOCK = profile_block({})


class Boot2Docker(FakeGuest):
    """A boot2docker whose files are in memory."""

    def __init__(self, profile: str = "", *, started: bool = True, authorized: bool = False) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {"profile": profile.encode()} if profile else {}
        self.started = started
        self.authorized = authorized
        self.stores = True
        self.restarts = True

    def run(self, command: str, timeout_s: float, limit: int = 0) -> CommandResult:
        super().run(command, timeout_s)
        if command.startswith("grep "):
            return CommandResult(0, self._content(), b"")
        if command.startswith("cd /var/lib/boot2docker && sudo rm -f "):
            for name in command.split()[6:]:
                del self.files[name]
            return CommandResult(0, b"", b"")
        if command == TRUST:
            return CommandResult(0, b"", b"")
        if command == RESTART:
            return CommandResult(0, b"", b"") if self.restarts else CommandResult(1, b"", b"error: failed to stop\n")
        assert "authorized_keys" in command
        self.authorized = True
        return CommandResult(0, b"", b"")

    def _content(self) -> bytes:
        lines = [word for word, is_so in (("authorized", self.authorized), ("started", self.started)) if is_so]
        lines += [f"{sha256(content).hexdigest()}  {name}" for name, content in self.files.items() if name != "profile"]
        return "\n".join([*lines, MARK, ""]).encode() + self.files.get("profile", b"")

    @contextmanager
    def piped(self, command: str) -> Iterator[Pipe]:
        assert command == "sudo tar -xf - -C /var/lib/boot2docker"
        yield Tar(self)


class Tar:
    """tar, which unpacks its stdin in that guest."""

    def __init__(self, guest: Boot2Docker) -> None:
        self._guest = guest
        self._content = b""

    def read(self, size: int) -> bytes:
        return b""

    def write(self, content: bytes) -> None:
        self._content += content

    def end(self) -> CommandResult:
        if not self._guest.stores:
            return CommandResult(1, b"", b"tar: No space left on device\n")
        with tarfile.open(fileobj=io.BytesIO(self._content)) as archive:
            for member in archive:
                assert member.mode == 0o600
                file = archive.extractfile(member)
                assert file is not None
                self._guest.files[member.name] = file.read()
        return CommandResult(0, b"", b"")


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    machine = MachinePaths(tmp_path / "machines" / "box")
    private_folder(machine.folder)
    keys.ensure_client(machine)
    keys.ensure_host(machine)
    return machine


def test_a_started_guest_gets_certificates_and_its_docker_is_restarted_once(paths: MachinePaths) -> None:
    guest = Boot2Docker("EXTRA_ARGS='--label a=b'\n")
    assert set_up(guest, a_spec("box"), paths)
    assert guest.authorized
    assert guest.files["tls/b2d-ca.pem"] == (paths.certs / "ca.pem").read_bytes()
    assert guest.files["tls/b2d-server-key.pem"] == (paths.authority / "server-key.pem").read_bytes()
    assert guest.files["profile"].decode() == f"EXTRA_ARGS='--label a=b'\n{BLOCK}"
    assert guest.commands.count(RESTART) == 1
    guest.commands.clear()
    assert set_up(guest, a_spec("box"), paths)
    assert [command.partition(" ")[0] for command in guest.commands] == ["grep"]


def test_nothing_is_replaced_before_docker_has_started(paths: MachinePaths) -> None:
    guest = Boot2Docker(started=False)
    assert not set_up(guest, a_spec("box"), paths)
    assert (guest.files, guest.authorized) == ({}, True)
    guest.started = True
    assert set_up(guest, a_spec("box"), paths)


def test_a_guest_that_is_set_up_is_not_waited_for(paths: MachinePaths) -> None:
    guest = Boot2Docker()
    set_up(guest, a_spec("box"), paths)
    guest.started = False
    assert set_up(guest, a_spec("box"), paths)


def test_another_address_gets_another_certificate(paths: MachinePaths) -> None:
    guest = Boot2Docker()
    set_up(guest, a_spec("box"), paths)
    before = guest.files["tls/b2d-server.pem"]
    set_up(guest, a_spec("box")._replace(address="127.0.59.177"), paths)
    assert guest.files["tls/b2d-server.pem"] != before
    assert guest.commands.count(RESTART) == 2


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("", BLOCK),
        ("A=1", f"A=1\n{BLOCK}"),
        (f"A=1\n{BLOCK}B=2\n", f"A=1\nB=2\n{BLOCK}"),
        (f"{BLOCK}", BLOCK),
        ("# b2d: begin\nold\n# b2d: end\nB=2", f"B=2\n{BLOCK}"),
        ("A=1\n# b2d: begin\ncut off", f"A=1\n{BLOCK}"),
    ],
)
def test_a_profile_keeps_its_other_lines(profile: str, expected: str) -> None:
    assert with_block(profile, BLOCK) == expected
    assert with_block(expected, BLOCK) == expected


def test_a_guest_that_cannot_store_or_restart_says_why(paths: MachinePaths) -> None:
    guest = Boot2Docker()
    guest.stores = False
    with pytest.raises(B2dError, match="No space left on device"):
        set_up(guest, a_spec("box"), paths)
    guest.stores, guest.restarts = True, False
    with pytest.raises(B2dError, match="failed to stop"):
        set_up(guest, a_spec("box"), paths)


@pytest.mark.parametrize(
    ("version", "notes"), [("1.40", 1), ("1.43", 1), ("1.44", 0), ("1.51", 0), ("", 0), ("x.y", 0), ("1.40" * 9999, 0)]
)
def test_an_engine_that_new_clients_refuse_is_mentioned(
    box: Box, version: str, notes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for foreign in (True, False):
        monkeypatch.setattr(foreign_guest, "is_foreign", lambda spec, images, foreign=foreign: foreign)
        foreign_guest.report_limits(FakeServices(box), a_spec("box"), box.paths, version)
        assert len(box.reporter.messages) == notes
    assert all("upgrade --image debian --vm box" in text for _, text in box.reporter.messages)


def test_name_servers_of_the_settings_do_not_reach_the_guest(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_guest, "is_foreign", lambda spec, images: True)
    for network, warnings in (({}, 0), ({"dns": b"192.0.2.7"}, 1)):
        monkeypatch.setattr(foreign_guest, "last_network", lambda paths, network=network: network)
        foreign_guest.report_limits(FakeServices(box), a_spec("box"), box.paths, "1.51")
        assert len(box.reporter.texts("warn")) == warnings


NETWORK = {
    "proxies": b"export https_proxy='http://me:s%25c@10.0.2.2:3128'\n",
    "authorities": b"-----BEGIN CERTIFICATE-----\n",
    "registries": b"registry-mirrors --registry-mirror=https://a.test\ninsecure-registries --insecure-registry=b\n",
}
ARGUMENTS = "EXTRA_ARGS=\"$EXTRA_ARGS \"'--registry-mirror=https://a.test --insecure-registry=b'\n"


def test_the_network_settings_are_in_the_profile_until_they_are_removed(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = Boot2Docker("EXTRA_ARGS='--label a=b'\n")
    monkeypatch.setattr(foreign_guest, "last_network", lambda paths: NETWORK)
    assert set_up(guest, a_spec("box"), paths)
    assert guest.files[AUTHORITIES] == NETWORK["authorities"]
    assert guest.files["profile"].decode().endswith(f"{NETWORK['proxies'].decode()}{ARGUMENTS}# b2d: end\n")
    assert guest.commands[-2:] == [TRUST, RESTART]
    set_up(guest, a_spec("box"), paths)
    assert guest.commands.count(RESTART) == guest.commands.count(TRUST) == 1
    monkeypatch.setattr(foreign_guest, "last_network", lambda paths: {})
    set_up(guest, a_spec("box"), paths)
    assert guest.files["profile"].decode() == f"EXTRA_ARGS='--label a=b'\n{BLOCK}"
    assert (AUTHORITIES in guest.files, guest.commands.count(RESTART)) == (False, 2)


def test_an_endless_profile_is_refused(paths: MachinePaths) -> None:
    with pytest.raises(B2dError, match="larger than"):
        set_up(Boot2Docker("x" * 100_000), a_spec("box"), paths)


@pytest.mark.parametrize(("listens", "trusted"), [(7, True), (8, False), (0, False)])
def test_only_the_machine_s_own_port_is_trusted(listens: int, trusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forwarding(FakeDriver):
        def endpoint(self) -> Endpoint:
            return Endpoint("127.0.0.1", 2022, 2376)

        def process(self) -> ProcessIdentity:
            return ProcessIdentity(7, "1", "2")

    monkeypatch.setattr(port_allocation, "listening_process", lambda address, port: listens)
    if trusted:
        foreign_guest.require_own_port(Forwarding(a_spec("box")))
    else:
        with pytest.raises(B2dError, match=r"and not the machine, listens at 127\.0\.0\.1:2022"):
            foreign_guest.require_own_port(Forwarding(a_spec("box")))
