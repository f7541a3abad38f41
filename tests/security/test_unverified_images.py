"""No image is downloaded without verification: https, or a hash, or a refusal before any request (case M13)."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.errors import ConfigError
from b2d.image.acquire import ImageAcquirer
from b2d.image.image_store import ImageStore
from b2d.image.source import describe_source, split_hash
from b2d.machine_store.store import MachineStore
from b2d.paths import MachinePaths
from tests.support.cli import Prompt, Result
from tests.support.fakes import FakeReporter, a_spec
from tests.support.http_server import WebServer, serving
from tests.support.kernel_images import an_iso

ISO = an_iso("b2d-v19.03.12", {"/version": bytes(range(256)) * 100})
OTHER = an_iso("b2d-v19.03.11", {"/version": bytes(range(255, -1, -1)) * 100})
SHA256 = hashlib.sha256(ISO).hexdigest()
SOME = "ab" * 32  # the ISO's own hash depends on its creation time, so each test process would have another one
API = "/api/v3/repos/o/r/releases"


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[WebServer]:
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[WebServer]:
    with serving(tmp_path, tls=True) as server:
        yield server


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    (tmp_path / "home").mkdir()
    trusted = MachinePaths(tmp_path / "certificates").certs / "ca.pem"  # created by tests/support/http_server.py
    return Prompt(tmp_path / "home", {"NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": str(trusted), "B2D_DRIVER": "qemu"})


def listed(url: str, body: str = "") -> bytes:
    asset = {"name": "boot2docker.iso", "browser_download_url": url}
    return json.dumps([{"tag_name": "v19.03.12", "assets": [asset], "body": body}]).encode()


def assert_refused(result: Result, server: WebServer) -> None:
    """Assert that nothing was requested and that the message names both alternatives."""
    assert result.code == 7, result.err
    assert "is not https" in result.err and "https://" in result.err and "#sha256=" in result.err
    assert server.requests == []


@pytest.mark.parametrize(
    ("typed", "variable", "profile"),
    [
        (("download", "{}"), "", ""),
        (("--image", "{}", "download"), "", ""),
        (("download", "--iso-url={}"), "", ""),
        (("download",), "{}", ""),
        (("download",), "", 'ISOURL = "{}"'),
    ],
    ids=["argument", "option", "old option", "variable", "old profile"],
)
@pytest.mark.parametrize("path", ["/b2d.iso", API], ids=["iso", "releases"])
def test_plain_http_is_refused_from_every_source_and_accepted_with_a_hash(
    plain: WebServer, prompt: Prompt, typed: tuple[str, ...], variable: str, profile: str, path: str
) -> None:
    url = plain.put("/b2d.iso", ISO)
    plain.put(API, listed(url, f"{SHA256}  boot2docker.iso"))  # a hash from http is unverified too

    def says(source: str) -> Result:
        if profile:
            folder = prompt.folder / ".boot2docker"
            folder.mkdir(exist_ok=True)
            (folder / "profile").write_text(profile.format(source) + "\n")
        return prompt.b2d(*(word.format(source) for word in typed), B2D_IMAGE=variable.format(source))

    assert_refused(says(plain.url + path), plain)
    taken = says(f"{plain.url}{path}#sha256={SHA256.upper()}")
    assert taken.code == 0, taken.err
    (image,) = ImageStore(prompt.home).all()
    assert image.source == f"{plain.url}{path}#sha256={SHA256}" and image.iso.read_bytes() == ISO


def test_a_setting_does_not_bypass_the_check(plain: WebServer, prompt: Prompt) -> None:
    url = plain.put("/b2d.iso", ISO)
    assert prompt.b2d("config", "set", f"image={url}").code == 0
    assert_refused(prompt.b2d("download"), plain)
    assert prompt.b2d("config", "set", f"image={url}#sha256={SHA256}").code == 0
    assert prompt.b2d("config", "get", "image").out == f"{url}#sha256={SHA256}\n"
    assert prompt.b2d("download").code == 0


def test_plain_http_is_refused_for_the_source_of_a_machine(plain: WebServer, prompt: Prompt, tmp_path: Path) -> None:
    """The stored image was verified when it was added, so the machine starts as before."""
    url = plain.put("/b2d.iso", ISO)
    (tmp_path / "a.iso").write_bytes(OTHER)
    image = ImageStore(prompt.home).add_copy(tmp_path / "a.iso", url)
    MachineStore(prompt.home).write(a_spec(source=url, image=image.sha256))
    assert_refused(prompt.b2d("download"), plain)
    assert ImageAcquirer(prompt.home, "", FakeReporter()).ensure(url) == image


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_the_password_in_an_address_is_not_shown(prompt: Prompt, plain: WebServer, scheme: str) -> None:
    result = prompt.b2d("download", plain.url.replace("http://", f"{scheme}://me:geheim@") + "/a.iso?token=geheim")
    assert_refused(result, plain)
    assert "geheim" not in result.err


def test_a_given_hash_is_checked_with_https_too(tls: WebServer, plain: WebServer, prompt: Prompt) -> None:
    for server in (tls, plain):
        url = server.put("/b2d.iso", OTHER)
        result = prompt.b2d("download", f"{url}#sha256={SHA256}")
        assert result.code == 7 and SHA256 in result.err
        assert ImageStore(prompt.home).all() == []
        server.put("/b2d.iso", ISO)
        assert prompt.b2d("download", f"{url}#sha256={SHA256}").code == 0
        server.requests.clear()
        assert "already the newest" in prompt.b2d("download", f"{url}#sha256={SHA256}").err
        assert server.requests == []  # no other hash is possible
        ImageStore(prompt.home).remove(SHA256)


def test_a_given_hash_overrides_that_of_a_release(tls: WebServer, prompt: Prompt) -> None:
    url = tls.put("/b2d.iso", OTHER)
    api = tls.put(API, listed(url, f"{hashlib.sha256(OTHER).hexdigest()}  boot2docker.iso"))
    result = prompt.b2d("download", f"{api}#sha256={SHA256}")
    assert result.code == 7 and ImageStore(prompt.home).all() == []


@pytest.mark.parametrize(
    "fragment",
    [
        "",
        "sha256=",
        "sha256=12",
        f"sha256={SOME}0",
        f"sha256={SOME[:-1]}g",
        f"sha512={SOME}",
        f"sha256={SOME}#",
    ],
)
def test_an_invalid_hash_is_a_usage_error(plain: WebServer, tls: WebServer, prompt: Prompt, fragment: str) -> None:
    for server in (plain, tls):
        result = prompt.b2d("download", f"{server.url}/b2d.iso#{fragment}")
        assert result.code == 2 and "#sha256=" in result.err, result.err
        result = prompt.b2d("init", "--image", f"{server.url}/b2d.iso#{fragment}")
        assert result.code == 2, result.err
        assert server.requests == []


def test_equal_sources_have_one_name() -> None:
    address = "https://host/b2d.iso"
    assert describe_source(address) == address
    assert describe_source(f"{address}#SHA256={SHA256.upper()}") == describe_source(f"{address}#sha256={SHA256}")
    assert split_hash(f"{address}#sha256={SHA256}") == (address, SHA256)
    assert split_hash("debian") == ("debian", "")
    with pytest.raises(ConfigError):
        describe_source(f"{address}#sha256={SHA256}\n")


def test_a_file_name_may_contain_a_hash_sign(tmp_path: Path) -> None:
    iso = tmp_path / "a#sha256=1.iso"
    iso.write_bytes(ISO)
    assert describe_source(str(iso)) == str(iso)
    assert split_hash(str(iso)) == (str(iso), "")


@pytest.mark.parametrize("more", [f"#sha256={'0' * 64}", "#x", "?sha256=0"])
def test_a_hash_after_a_file_url_is_refused(tmp_path: Path, more: str) -> None:
    (tmp_path / "a.iso").write_bytes(ISO)
    address = (tmp_path / "a.iso").as_uri()
    assert describe_source(address) == str(tmp_path / "a.iso")
    with pytest.raises(ConfigError, match="must end with its path"):
        describe_source(address + more)
