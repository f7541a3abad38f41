"""`b2d download` with misbehaving servers: new files arrive whole, and nothing is transferred twice."""

import hashlib
import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from b2d.image import boot_files
from b2d.image.image_store import ImageStore
from b2d.machine_store.store import MachineStore
from b2d.network.download import IDLE_ATTEMPTS
from b2d.paths import MachinePaths
from tests.support.cli import B2D, Prompt, Result
from tests.support.fakes import a_spec
from tests.support.http_server import PORTAL, WebServer, respond_with, serving
from tests.support.kernel_images import a_b2d_iso, an_iso

OLD = an_iso("b2d-v19.03.11", {"/version": bytes(range(256)) * 8000})
NEW = an_iso("b2d-v19.03.12", {"/version": bytes(range(255, -1, -1)) * 8000})
API = "/api/v3/repos/o/r/releases"
OFFICIAL = "/repos/boot2docker/boot2docker/releases"
LAST = "/boot2docker/boot2docker/releases/download/v19.03.12/boot2docker.iso"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    """Serve with TLS, with a CA that `prompt` trusts."""
    with serving(tmp_path, tls=True) as server:
        yield server


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[WebServer]:
    """Serve, as a server or a proxy, without TLS."""
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    (tmp_path / "home").mkdir()
    trusted = MachinePaths(tmp_path / "certificates").certs / "ca.pem"  # created by tests/support/http_server.py
    return Prompt(tmp_path / "home", {"NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": str(trusted)})


def a_release(url: str, tag: str = "v19.03.12", body: str = "", **changes: object) -> dict[str, object]:
    asset = {"name": "boot2docker.iso", "browser_download_url": url}
    return {"tag_name": tag, "prerelease": False, "draft": False, "assets": [asset], "body": body, **changes}


def stored_contents(prompt: Prompt) -> list[bytes]:
    """Return the contents of the stored images, the newest first."""
    return [image.iso.read_bytes() for image in ImageStore(prompt.home).all()]


def assert_stored(result: Result, version: str) -> None:
    assert (result.code, result.out) == (0, ""), result.err
    assert f"\n{version} is stored: " in f"\n{result.err}"


def assert_already_newest(result: Result, version: str) -> None:
    assert (result.code, result.out) == (0, ""), result.err
    assert result.err.startswith(f"{version} is already the newest: ")
    assert len(result.err.splitlines()) == 1


def assert_refused(result: Result, *texts: str) -> None:
    assert (result.code, result.out) == (7, ""), result.err
    assert "try: " in result.err and "Traceback" not in result.err
    for text in texts:
        assert text in result.err


@pytest.mark.parametrize("etags", [True, False])
def test_an_image_that_is_the_newest_is_not_transferred_again(web: WebServer, prompt: Prompt, etags: bool) -> None:
    web.etags = etags
    url = web.put("/b2d.iso", OLD)
    assert_stored(prompt.b2d("download", url), "19.03.11")
    assert web.sent == len(OLD)
    assert_already_newest(prompt.b2d("download", url), "19.03.11")
    assert (web.sent, len(web.requests)) == (len(OLD), 2)
    web.put("/b2d.iso", NEW)
    assert_stored(prompt.b2d("download", url), "19.03.12")
    assert web.sent == len(OLD) + len(NEW)
    assert stored_contents(prompt) == [NEW, OLD]


def test_an_image_that_is_damaged_is_transferred_again(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/b2d.iso", OLD)
    prompt.b2d("download", url)
    (image,) = ImageStore(prompt.home).all()
    image.iso.write_bytes(OLD[:-1] + b"?")
    assert prompt.b2d("download", url).code == 0
    assert web.sent == 2 * len(OLD)
    assert stored_contents(prompt) == [OLD]


def test_a_download_does_not_replace_the_image_of_a_machine(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/b2d.iso", OLD)
    prompt.b2d("download", url)
    (image,) = ImageStore(prompt.home).all()
    spec = a_spec(source=url, image=image.sha256)
    MachineStore(prompt.home).write(spec)
    before = boot_files.stamp(image.iso)
    web.put("/b2d.iso", NEW)
    assert_stored(prompt.b2d("download"), "19.03.12")  # follows the stored image
    assert boot_files.stamp(image.iso) == before
    assert MachineStore(prompt.home).read(spec.name) == spec
    web.put("/b2d.iso", OLD)
    assert prompt.b2d("download").code == 0
    assert boot_files.stamp(image.iso) == before


@pytest.mark.parametrize("options", [("download", "{}"), ("--image", "{}", "download"), ("download", "--iso-url={}")])
def test_a_releases_api_is_a_source(web: WebServer, prompt: Prompt, options: tuple[str, ...]) -> None:
    url = web.put("/o/r/releases/download/v19.03.12/boot2docker.iso", NEW)
    listed = [a_release(url, "v20-rc1", prerelease=True), a_release(url)]
    api = web.put(API, json.dumps(listed).encode())
    typed = [word.format(api) for word in options]
    assert_stored(prompt.b2d(*typed), "19.03.12")
    sent = web.sent
    assert_already_newest(prompt.b2d(*typed), "19.03.12")
    assert web.sent == sent
    image = ImageStore(prompt.home).find(api)
    assert image is not None and image.iso.read_bytes() == NEW
    prompt.b2d("config", "set", f"image={api}")
    assert_already_newest(prompt.b2d("download"), "19.03.12")


def test_a_release_with_a_published_hash_is_recognised_without_a_request_for_it(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/a.iso", NEW)
    prompt.b2d("download", url)
    (image,) = ImageStore(prompt.home).all()
    api = web.put(API, json.dumps([a_release(url, body=f"{image.sha256}  boot2docker.iso")]).encode())
    web.requests.clear()
    assert_already_newest(prompt.b2d("download", api), "19.03.12")
    assert web.paths() == [API]
    web.put("/a.iso", OLD)
    ImageStore(prompt.home).remove(image.sha256)
    assert_refused(prompt.b2d("download", api), image.sha256, "was published")
    assert stored_contents(prompt) == []


def test_a_single_release_can_be_selected(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/a.iso", OLD)
    api = web.put(f"{API}/tags/v19.03.11-rc1", json.dumps(a_release(url, "v19.03.11-rc1", prerelease=True)).encode())
    assert_stored(prompt.b2d("download", api), "19.03.11-rc1")


@pytest.mark.parametrize("code", [403, 429, 500, 503])
def test_the_stored_image_is_used_when_the_server_refuses_to_answer(web: WebServer, prompt: Prompt, code: int) -> None:
    url = web.put("/a.iso", NEW)
    api = web.put(API, json.dumps([a_release(url)]).encode())
    refusal = respond_with(code, b'{"message": "API rate limit exceeded"}', X_RateLimit_Remaining="0")
    web.odd[API] = refusal
    assert_refused(prompt.b2d("download", api), f"({code})")
    del web.odd[API]
    prompt.b2d("download", api)
    prompt.b2d("download", url)
    web.odd = {API: refusal, "/a.iso": refusal}
    for source in (api, url):
        result = prompt.b2d("download", source)
        *retries, last = result.err.splitlines()
        assert (result.code, len(retries)) == (0, IDLE_ATTEMPTS - 1 if code >= 500 and source == url else 0)
        assert all(f"({code})" in line and line.endswith("; starting again") for line in retries)
        assert last.startswith("19.03.12 is the newest stored image, and a newer one is unknown (127.0.0.1:")
        assert f"({code})" in last


def test_the_stored_image_is_used_without_a_network(prompt: Prompt, tmp_path: Path) -> None:
    with serving(tmp_path, tls=True) as web:
        url = web.put("/a.iso", NEW)
        prompt.b2d("download", url)
    result = prompt.b2d("download", url)
    assert (result.code, len(result.err.splitlines())) == (0, 1)
    assert "cannot be reached" in result.err
    assert_refused(prompt.b2d("download", f"{web.url}/b.iso"), "cannot be reached")


def test_the_stored_debian_image_is_used_without_a_mirror(prompt: Prompt, tmp_path: Path) -> None:
    (tmp_path / "a.iso").write_bytes(a_b2d_iso())
    nowhere = {"B2D_MIRROR": "http://127.0.0.1:1/debian"}
    assert_refused(prompt.b2d("download", **nowhere), "cannot be reached")
    ImageStore(prompt.home).add_copy(tmp_path / "a.iso", "debian")
    result = prompt.b2d("-q", "download", **nowhere)
    assert (result.code, result.out, result.err) == (0, "", "")
    result = prompt.b2d("download", **nowhere)
    assert result.code == 0
    assert result.err.splitlines()[-1].startswith(
        "26.1.5-6.12.117 is the newest stored image, and a newer one is unknown ("
    )


def test_an_unsigned_debian_index_is_an_error_despite_a_stored_image(
    web: WebServer, prompt: Prompt, tmp_path: Path
) -> None:
    (tmp_path / "a.iso").write_bytes(a_b2d_iso())
    ImageStore(prompt.home).add_copy(tmp_path / "a.iso", "debian")
    web.put("/debian/dists/trixie/InRelease", b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\n")
    assert_refused(prompt.b2d("download", B2D_MIRROR=f"{web.url}/debian"), "is not signed by Debian")


def test_secrets_in_an_address_are_not_shown(web: WebServer, prompt: Prompt) -> None:
    for answer in (
        respond_with(404),
        respond_with(200, PORTAL),
        respond_with(200, b"what", ETag='"x"'),
        respond_with(200, NEW[:-5000], ETag='"x"'),
    ):
        web.odd["/a.iso?token=verysecret"] = answer
        address = web.url.replace("//", "//user:verysecret@")
        result = prompt.b2d("download", f"{address}/a.iso?token=verysecret")
        assert_refused(result, f"{web.url}/a.iso")
        assert "verysecret" not in result.err


def test_a_deleted_file_is_an_error_despite_a_stored_image(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/a.iso", NEW)
    prompt.b2d("download", url)
    web.files.clear()
    assert_refused(prompt.b2d("download", url), "has no such file (404)")


def test_a_file_url_is_a_source(prompt: Prompt) -> None:
    iso = prompt.folder / "an image ü.iso"
    iso.write_bytes(OLD)
    assert_stored(prompt.b2d("download", iso.as_uri()), "19.03.11")
    assert_already_newest(prompt.b2d("download", str(iso)), "19.03.11")
    assert_already_newest(prompt.b2d("download", f"file://localhost{iso.as_uri().removeprefix('file://')}"), "19.03.11")
    for wrong in ("file:///no/such.iso", f"file://host{iso}", "file://"):
        result = prompt.b2d("download", wrong)
        assert result.code == 2, result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_download_is_resumed(web: WebServer, prompt: Prompt, number: signal.Signals) -> None:
    url = web.put("/b2d.iso", NEW)
    web.holds_after = len(NEW) // 2
    running = subprocess.Popen([B2D, "download", url], env=prompt.full_environment(), stderr=subprocess.PIPE, text=True)
    assert web.held.wait(20)
    while not (part := next(prompt.home.cache.glob("*.part"), None)) or part.stat().st_size < len(NEW) // 3:
        assert running.poll() is None
    running.send_signal(number)
    stderr = running.communicate(timeout=20)[1]
    assert running.returncode in (128 + number, -number)
    assert "Traceback" not in stderr
    had = part.stat().st_size
    web.goes_on.set()
    web.holds_after = 0
    assert_stored(prompt.b2d("download", url), "19.03.12")
    assert web.requests[-1][2]["Range"] == f"bytes={had}-"
    assert web.given[-1] == len(NEW) - had
    assert stored_contents(prompt) == [NEW]


def test_two_downloads_at_once_transfer_the_file_once(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/b2d.iso", NEW)
    web.holds_after = len(NEW) // 2
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(prompt.b2d, "download", url) for _ in range(2)]
        assert web.held.wait(20)
        threading.Timer(1.0, web.goes_on.set).start()
        results = [future.result() for future in both]
    for future in results:
        assert future.code == 0
        assert re.search("^19.03.12 is (stored|already the newest): ", future.err, re.MULTILINE)
    assert (web.sent, stored_contents(prompt)) == (len(NEW), [NEW])


@pytest.mark.needs("linux", "unshare")  # a small disk, mounted in a namespace
def test_a_full_disk_is_reported_with_the_required_space(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/b2d.iso", NEW)
    disk = prompt.home.root
    disk.mkdir()

    def on_a_disk_of(kilobytes: int, source: str) -> Result:
        script = f"mount -t tmpfs -o size={kilobytes}k none '{disk}' && exec b2d download '{source}'"
        return prompt.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script])

    assert_refused(on_a_disk_of(1000, url), f"({len(NEW)} bytes) are needed", str(disk), "make room")
    iso = prompt.folder / "a.iso"
    iso.write_bytes(NEW)
    assert_refused(on_a_disk_of(1000, str(iso)), f"({len(NEW)} bytes) are needed", str(disk), "make room")
    assert_stored(on_a_disk_of(len(NEW) // 1024 + 100, url), "19.03.12")  # no second copy during the installation

    web.odd["/b2d.iso"] = respond_with(200, NEW, Content_Length="")  # the length is unknown
    assert_refused(on_a_disk_of(1000, url), "more are needed", str(disk), "make room")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_private_ca_named_in_the_environment_is_trusted(web: WebServer, prompt: Prompt, name: str) -> None:
    url = web.put("/b2d.iso", NEW)
    prompt.environment["SSL_CERT_FILE"] = ""
    assert_refused(prompt.b2d("download", url), "is not trusted", "SSL_CERT_FILE")
    assert_refused(
        prompt.b2d("download", url, **{name: "/no/such.pem"}), f"/no/such.pem, which is set in {name}, does not exist"
    )
    assert_stored(prompt.b2d("download", url, **{name: str(web.authority)}), "19.03.12")


def test_a_redirect_from_https_to_http_is_refused(web: WebServer, plain: WebServer, prompt: Prompt) -> None:
    target = plain.put("/b2d.iso", NEW)
    web.odd["/b2d.iso"] = respond_with(302, Location=target)
    assert_refused(prompt.b2d("download", f"{web.url}/b2d.iso"), f"redirects from https to {target}")
    api = web.put(API, json.dumps([a_release(target)]).encode())
    assert_refused(prompt.b2d("download", api), f"redirects from https to {target}")
    assert plain.requests == []


def proxy_environment(proxy: WebServer) -> dict[str, str]:
    """Return the environment of a company: a proxy, and the proxy's own CA as the trusted one."""
    return {
        "https_proxy": proxy.url,
        "http_proxy": proxy.url,
        "NO_PROXY": "",
        "REQUESTS_CA_BUNDLE": str(proxy.authority),
    }


def test_boot2docker_is_downloaded_through_a_proxy_with_a_private_ca(plain: WebServer, prompt: Prompt) -> None:
    plain.put(OFFICIAL, json.dumps([a_release(f"https://github.com{LAST}")]).encode())
    plain.put(LAST, NEW)
    assert_stored(prompt.b2d("download", "boot2docker", **proxy_environment(plain)), "19.03.12")
    assert [(host, path) for host, path, _ in plain.requests] == [
        ("api.github.com:443", OFFICIAL),
        ("github.com:443", LAST),
    ]
    sent = plain.sent
    assert_already_newest(prompt.b2d("download", "boot2docker", **proxy_environment(plain)), "19.03.12")
    assert plain.sent == sent
    plain.odd[OFFICIAL] = respond_with(403, X_RateLimit_Remaining="0")
    result = prompt.b2d("download", "boot2docker", **proxy_environment(plain))
    assert (result.code, len(result.err.splitlines())) == (0, 1)
    assert "api.github.com received too many requests" in result.err


def test_the_last_known_release_is_used_when_the_releases_cannot_be_listed(plain: WebServer, prompt: Prompt) -> None:
    plain.odd[OFFICIAL] = respond_with(403, X_RateLimit_Remaining="0")
    plain.put(LAST, NEW)
    result = prompt.b2d("download", "boot2docker", **proxy_environment(plain))
    assert_stored(result, "19.03.12")
    assert "warning: the releases could not be listed, using 19.03.12" in result.err


@pytest.mark.parametrize("label", ["b2d-v19.03.12", "Boot2Docker-v19.03.12", "Boot2Bocker-v19.03.12", "Boot2Docker"])
def test_boot2docker_is_recognised_by_each_form_of_its_label(plain: WebServer, prompt: Prompt, label: str) -> None:
    plain.put(OFFICIAL, json.dumps([a_release(f"https://github.com{LAST}")]).encode())
    plain.put(LAST, an_iso(label))
    result = prompt.b2d("download", "boot2docker", **proxy_environment(plain))
    assert_stored(result, "19.03.12")
    assert "warning" not in result.err


def test_an_iso_without_the_label_of_boot2docker_is_refused_and_another_release_is_reported(
    plain: WebServer, prompt: Prompt
) -> None:
    plain.put(OFFICIAL, json.dumps([a_release(f"https://github.com{LAST}")]).encode())
    plain.put(LAST, an_iso("SOME_LINUX"))
    assert_refused(prompt.b2d("download", "boot2docker", **proxy_environment(plain)), "'SOME_LINUX'")
    assert stored_contents(prompt) == []
    plain.put(LAST, OLD)
    result = prompt.b2d("download", "boot2docker", **proxy_environment(plain))
    assert_stored(result, "19.03.12")
    assert "warning: the ISO of release 19.03.12 is labelled 19.03.11" in result.err


def test_a_proxy_is_used_for_plain_http_and_an_unreachable_one_is_reported(plain: WebServer, prompt: Prompt) -> None:
    pin = f"#sha256={hashlib.sha256(NEW).hexdigest()}"
    plain.put("http://mirror.example/b2d.iso", NEW)
    assert_stored(prompt.b2d("download", f"http://mirror.example/b2d.iso{pin}", **proxy_environment(plain)), "19.03.12")
    away = {"http_proxy": "http://127.0.0.1:1", "NO_PROXY": ""}
    assert_refused(
        prompt.b2d("download", f"http://mirror.example/other.iso#sha256={'0' * 64}", **away), "the proxy cannot be used"
    )
    result = prompt.b2d("download", f"http://mirror.example/b2d.iso{pin}", **away)
    assert (result.code, len(result.err.splitlines())) == (0, 1)


def test_a_captive_portal_is_recognised(web: WebServer, prompt: Prompt) -> None:
    url, api = web.put("/b2d.iso", NEW), web.put(API, b"[]")
    prompt.b2d("download", url)
    web.put("/login", PORTAL)
    web.odd = {"/b2d.iso": respond_with(302, Location="/login"), API: respond_with(302, Location="/login")}
    assert_refused(prompt.b2d("download", url), "is a web page, not an ISO", "may require a login")
    assert_refused(prompt.b2d("download", api), "is a web page", "may require a login")
    web.odd = {"/b2d.iso": respond_with(511, PORTAL)}
    assert_refused(prompt.b2d("download", url), "login", "(511)")
    assert stored_contents(prompt) == [NEW]


def test_json_says_whether_the_image_is_new(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/b2d.iso", NEW)
    for changed in (True, False):
        document = json.loads(prompt.b2d("download", url, "--json").out)
        assert (document["version"], document["source"], document["changed"]) == ("19.03.12", url, changed)
    web.odd["/b2d.iso"] = respond_with(503)
    assert json.loads(prompt.b2d("download", url, "--json").out)["changed"] is False


def test_quiet_prints_errors_with_their_hints_only(web: WebServer, prompt: Prompt) -> None:
    url = web.put("/b2d.iso", NEW)
    assert prompt.b2d("-q", "download", url) == Result(0, "", "")
    assert prompt.b2d("-q", "download", url) == Result(0, "", "")
    assert re.fullmatch(r".*\n +try: .*\n", prompt.b2d("-q", "download", f"{web.url}/none").err)
