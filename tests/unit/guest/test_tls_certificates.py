"""The machine's certificates, verified by OpenSSL in a real handshake."""

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from b2d.guest import tls_certificates
from b2d.paths import MachinePaths

NOW = datetime.now(UTC)
ADDRESS = "127.0.59.103"


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    machine_paths = MachinePaths(tmp_path / "box")
    tls_certificates.ensure_certificates(machine_paths, [ADDRESS], NOW)
    return machine_paths


def shake_hands(server: MachinePaths, client: MachinePaths, name: str, *, shows_certificate: bool = True) -> bytes:
    """Return the data that a client reads from a server with client authentication; strict, as Go and new OpenSSLs."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server.authority / "server.pem", server.authority / "server-key.pem")
    serving.load_verify_locations(server.certs / "ca.pem")
    serving.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(client.certs / "ca.pem"))
    serving.verify_flags |= ssl.VERIFY_X509_STRICT
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    if shows_certificate:
        asking.load_cert_chain(client.certs / "cert.pem", client.certs / "key.pem")
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)

    def serve() -> None:
        try:
            with serving.wrap_socket(theirs, server_side=True) as connection:
                connection.sendall(b"hello")
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(ours, server_hostname=name) as connection:
            return connection.recv(5)
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", [ADDRESS, "127.0.0.1", "::1", "localhost", "boot2docker"])
def test_client_and_server_accept_each_other_by_every_name(paths: MachinePaths, name: str) -> None:
    assert shake_hands(paths, paths, name) == b"hello"


def test_a_server_of_another_name_is_refused(paths: MachinePaths) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(paths, paths, "127.0.59.104")


def test_a_client_without_a_certificate_is_refused(paths: MachinePaths) -> None:
    with pytest.raises(OSError):
        shake_hands(paths, paths, ADDRESS, shows_certificate=False)


def test_a_client_of_another_machine_is_refused(paths: MachinePaths, tmp_path: Path) -> None:
    other = MachinePaths(tmp_path / "other")
    tls_certificates.ensure_certificates(other, [ADDRESS], NOW)
    (other.certs / "ca.pem").write_bytes((paths.certs / "ca.pem").read_bytes())
    with pytest.raises(OSError):
        shake_hands(paths, other, ADDRESS)


def test_keys_are_private(paths: MachinePaths) -> None:
    for folder in (paths.certs, paths.authority):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def contents(paths: MachinePaths) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for folder in (paths.certs, paths.authority) for path in folder.iterdir()}


def test_valid_certificates_are_unchanged(paths: MachinePaths) -> None:
    before = contents(paths)
    assert tls_certificates.ensure_certificates(paths, [ADDRESS], NOW + timedelta(days=600)) is False
    assert contents(paths) == before


def test_certificates_that_expire_within_thirty_days_are_renewed_by_the_same_ca(paths: MachinePaths) -> None:
    before = contents(paths)
    assert tls_certificates.ensure_certificates(paths, [ADDRESS], NOW + timedelta(days=701)) is True
    after = contents(paths)
    assert {name for name in after if after[name] == before[name]} == {"ca.pem", "ca-key.pem"}


def test_a_new_address_renews_only_the_server_certificate(paths: MachinePaths) -> None:
    before = contents(paths)
    assert tls_certificates.ensure_certificates(paths, ["192.168.59.103"], NOW) is True
    after = contents(paths)
    assert {name for name in after if after[name] != before[name]} == {"server.pem", "server-key.pem"}
    assert shake_hands(paths, paths, "192.168.59.103") == b"hello"


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_a_broken_ca_renews_all_certificates(paths: MachinePaths, name: str) -> None:
    folder = paths.certs if name == "ca.pem" else paths.authority
    (folder / name).write_bytes(b"broken")
    assert tls_certificates.ensure_certificates(paths, [ADDRESS], NOW) is True
    assert shake_hands(paths, paths, ADDRESS) == b"hello"


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
def test_a_missing_client_certificate_or_key_is_recreated(paths: MachinePaths, name: str) -> None:
    (paths.certs / name).unlink()
    assert tls_certificates.ensure_certificates(paths, [ADDRESS], NOW) is False
    assert shake_hands(paths, paths, ADDRESS) == b"hello"
