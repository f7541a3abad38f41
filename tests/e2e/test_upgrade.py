"""The upgrade steps of 2014: stop, download, start; the newer image boots, and the data is still there."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.conftest import Person

pytestmark = pytest.mark.qemu

SECTOR = 2048  # bytes


@pytest.fixture(scope="module")
def release(iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image release in a file that changes from time to time."""
    path = tmp_path_factory.mktemp("release") / "b2d.iso"
    path.write_bytes(iso.read_bytes())
    return path


def publish_newer(release: Path) -> None:
    """Publish the same content in other bytes."""
    with release.open("ab") as file:
        file.write(bytes(SECTOR))


def pin(file: Path) -> str:
    """Return the URL fragment with the image's hash."""
    return f"#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}"


def stored_images(person: Person) -> list[str]:
    """Return the files in images/ and cache/, without the locks."""
    folders = [folder for folder in (person.home.images, person.home.cache) if folder.exists()]
    return sorted(path.name for folder in folders for path in folder.rglob("*") if not path.name.endswith(".lock"))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on this host."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  its signature
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_stop_download_and_start_use_the_newer_image_and_preserve_the_data(person: Person, release: Path) -> None:
    person.check_output("up", "--image", str(release))
    first = json.loads(person.check_output("info"))["image"]
    tree = person.b2d("ssh", "--", "tar -cC / usr/bin/busybox").stdout
    person.docker("import", "--change", 'ENTRYPOINT ["/usr/bin/busybox"]', "-", "hello", stdin=tree)
    person.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo 42 >/kept/answer")
    person.check_output("ssh", "sudo sh -c 'echo mine >/var/lib/boot2docker/mine'")

    same = person.b2d("download")
    assert (same.returncode, b"already the newest" in same.stderr) == (0, True)

    publish_newer(release)
    completed = person.sh("boot2docker stop && boot2docker download && boot2docker start")
    assert completed.returncode == 0, completed.stderr
    assert b"starts with the newer image" in completed.stderr
    assert json.loads(person.check_output("info"))["image"] != first
    assert person.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer") == "42\n"
    assert person.check_output("ssh", "cat /var/lib/boot2docker/mine") == "mine\n"


def test_a_download_does_not_affect_a_running_machine(person: Person, release: Path) -> None:
    before = json.loads(person.check_output("info"))["image"]
    publish_newer(release)
    person.check_output("download")
    assert json.loads(person.check_output("info"))["image"] == before
    assert person.check_output("status") == "running\n"
    assert person.b2d("up").returncode == 0
    assert json.loads(person.check_output("info"))["image"] == before


def test_a_saved_machine_resumes_with_its_image(person: Person, release: Path) -> None:
    """A newer image that was downloaded in the saved state is used at the next boot."""
    before = json.loads(person.check_output("info"))["image"]
    boot = person.check_output("ssh", "cat /proc/sys/kernel/random/boot_id")
    person.check_output("save")
    person.check_output("download")
    person.check_output("up")
    assert person.check_output("ssh", "cat /proc/sys/kernel/random/boot_id") == boot
    assert json.loads(person.check_output("info"))["image"] == before


def test_an_image_is_downloaded_from_a_web_server(person: Person, release: Path) -> None:
    with served(release.parent) as url:
        source = f"{url}/b2d.iso{pin(release)}"
        completed = person.b2d("download", source)
        assert completed.returncode == 0, completed.stderr
        again = person.b2d("download", source)
        assert b"already the newest" in again.stderr
    assert source in [image["source"] for image in json.loads(person.check_output("iso", "list", "--json"))]


@pytest.mark.parametrize("content", [b"", b"<html>log in first</html>", os.urandom(100_000)])
def test_an_invalid_image_is_refused_and_not_stored(person: Person, release: Path, content: bytes) -> None:
    (release.parent / "garbage.iso").write_bytes(content)
    before = stored_images(person)
    with served(release.parent) as url:
        fetched = person.b2d("download", f"{url}/garbage.iso{pin(release.parent / 'garbage.iso')}")
    copied = person.b2d("download", str(release.parent / "garbage.iso"))
    assert (fetched.returncode, copied.returncode) == (7, 7)
    assert b"ISO image" in fetched.stderr
    assert b"ISO image" in copied.stderr
    assert stored_images(person) == before


def test_a_truncated_image_is_refused_and_not_stored(person: Person, release: Path, iso: Path) -> None:
    (release.parent / "half.iso").write_bytes(iso.read_bytes()[: iso.stat().st_size // 2])
    before = stored_images(person)
    with served(release.parent) as url:
        assert person.b2d("download", f"{url}/half.iso").returncode == 7
        assert person.b2d("download", f"{url}/none.iso").returncode == 7
    assert person.b2d("download", str(release.parent / "half.iso")).returncode == 7
    assert stored_images(person) == before


def test_a_missing_file_is_reported(person: Person) -> None:
    completed = person.b2d("download", "none.iso")
    assert completed.returncode == 2
    assert b"'none.iso'" in completed.stderr
