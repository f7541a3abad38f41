"""The seed disk and the data disk's payload, as the guest reads them."""

import io
import subprocess
import tarfile
from dataclasses import replace

import pytest

from b2d.guest import seed
from b2d.guest.folder_paths import Folder
from b2d.models import Access

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI docker@b2d\n"
TLS = seed.TlsFiles(ca=b"ca", server=b"server", server_key=b"key")


def a_seed(tls: seed.TlsFiles | None = TLS) -> seed.Seed:
    return seed.Seed(hostname="box", authorized_keys=KEY, host_key=b"private", tls=tls)


def files(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        contents = {}
        for member in archive:
            file = archive.extractfile(member)
            contents[member.name] = file.read() if file else b""
        return contents


def test_the_seed_holds_the_identity_of_the_guest() -> None:
    assert files(seed.image(a_seed())) == {
        "b2d-seed": b"1\n",
        "hostname": b"box\n",
        "authorized_keys": KEY.encode(),
        "host_ed25519": b"private",
        "userdata.tar": seed.payload(KEY),
        "tls/ca.pem": b"ca",
        "tls/server.pem": b"server",
        "tls/server-key.pem": b"key",
        "settings": b"B2D_TLS=yes\nB2D_SSH_PASSWORD=no\nB2D_HOST_LOOPBACK=yes\n",
    }


def test_without_tls_the_seed_says_so() -> None:
    contents = files(seed.image(a_seed(tls=None)))
    assert contents["settings"] == b"B2D_TLS=no\nB2D_SSH_PASSWORD=no\nB2D_HOST_LOOPBACK=yes\n"
    assert not [name for name in contents if name.startswith("tls/")]


def test_the_password_is_enabled_only_on_request() -> None:
    contents = files(seed.image(replace(a_seed(), access=Access(ssh_password=True))))
    assert b"B2D_SSH_PASSWORD=yes\n" in contents["settings"]


def test_the_seed_starts_with_its_name_and_is_padded_to_sectors() -> None:
    content = seed.image(a_seed())
    assert content.startswith(b"b2d-seed\0")
    assert len(content) % 2048 == 0


def test_the_same_seed_has_the_same_bytes() -> None:
    assert seed.image(a_seed()) == seed.image(a_seed())


def test_the_payload_starts_with_the_magic_and_fits_the_size_that_the_guest_saves() -> None:
    content = seed.payload(KEY)
    assert content.startswith(b"boot2docker, please format-me")
    assert len(content) <= 4096


def test_the_payload_can_be_unpacked_by_tar() -> None:
    listed = subprocess.run(
        ["tar", "-tvf", "-"], input=seed.payload(KEY), capture_output=True, check=True
    ).stdout.decode()
    assert "drwx------" in listed
    assert files(seed.payload(KEY))[".ssh/authorized_keys"] == KEY.encode()
    assert files(seed.payload(KEY))[".ssh/authorized_keys2"] == KEY.encode()


def test_a_key_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        seed.payload("k" * 600)


def test_the_seed_lists_the_folders_with_their_modes() -> None:
    shared = [Folder("/home/me", "/home/me", read_only=False), Folder("D:\\some data", "/d/some data", read_only=True)]
    contents = files(seed.image(replace(a_seed(), folders=shared)))
    assert contents["folders"] == b"b2d-0 rw /home/me\nb2d-1 ro /d/some data\n"


@pytest.mark.parametrize(
    "access", [Access(), Access(True), Access(True, "own words"), Access(False, "x", host_loopback=False)]
)
def test_access_settings_are_read_back_from_the_seed(access: Access) -> None:
    assert seed.access(seed.image(replace(a_seed(), access=access))) == access


def test_an_invalid_seed_has_no_access_settings() -> None:
    for disk in (b"", b"B2D_SSH_PASSWORD=yes\n", bytes(10240)):
        assert seed.access(disk) is None
