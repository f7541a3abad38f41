"""Upgrade and rollback of a real machine: an image that boots as labelled stays, others are rolled back."""

import json
import os
import signal
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from pycdlib import PyCdlib

from b2d.formats import iso_writer
from b2d.host.polling import wait_until
from b2d.machine_store.store import MachineStore
from b2d.models import Image, MachineSpec
from tests.e2e.conftest import B2D, NAME, Person
from tests.support import tiny_guest

pytestmark = pytest.mark.qemu

LIMIT_S = 120
NO_BOOT = """#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
echo 'b2d: 1.0 kernel' >/dev/ttyS0
echo 'b2d: fail this image was made so' >/dev/ttyS0
exec sleep 600
"""


class Release:
    """An image release, in a file that changes from time to time."""

    def __init__(self, iso: Path, image: Image, path: Path) -> None:
        self.path = path
        self._image = image
        self._files = contents(iso)
        self._number = 0
        self.publish_good()

    def publish_good(self) -> None:
        """Publish the same content with another label."""
        self._write({})

    def publish_failing(self) -> None:
        """Publish an image whose guest reports a fatal error."""
        assert self._image.initrd is not None
        initrd = zstandard.compress(tiny_guest.with_files(self._image.initrd, {"init": NO_BOOT}), 1)
        self._write({"/boot/initrd": initrd})

    def publish_with_kernel(self, linux: str) -> None:
        """Publish an image that claims that kernel version."""
        facts = json.loads(self._files["/b2d/image.json"])
        facts["version"] = f"{facts['version'].rpartition('-')[0]}-{linux}"
        self._write({"/b2d/image.json": json.dumps(facts).encode()})

    def _write(self, changes: dict[str, bytes]) -> None:
        self._number += 1
        iso_writer.write({**self._files, **changes}, f"b2d-v0.0.{self._number}", 1, self.path)


def contents(iso: Path) -> dict[str, bytes]:
    """Return every file of an ISO by path, without the boot catalogue, which differs in each build."""
    files = {}
    opened = PyCdlib()
    opened.open(str(iso))
    for folder, _, names in opened.walk(rr_path="/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            content = BytesIO()
            opened.get_file_from_iso_fp(content, rr_path=path)
            files[path] = content.getvalue()
    opened.close()
    return {path: content for path, content in files.items() if not path.endswith("boot.cat")}


@pytest.fixture(scope="module")
def release(iso: Path, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release(iso, image, tmp_path_factory.mktemp("release") / "b2d.iso")


@pytest.fixture(scope="module")
def machine(person: Person, release: Release) -> Person:
    """Yield a user whose machine runs an image of that release, with data on its disk."""
    person.home.templates.unlink()  # images that fail here are nothing for other modules
    person.check_output("up", "--image", str(release.path))
    person.create_hello_image()
    person.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo 42 >/kept/answer")
    person.check_output("ssh", "sudo sh -c 'echo mine >/var/lib/boot2docker/mine'")
    return person


def check_data(person: Person) -> None:
    assert person.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer") == "42\n"
    assert person.check_output("ssh", "cat /var/lib/boot2docker/mine") == "mine\n"


def facts(person: Person) -> tuple[str, str, str, str]:
    """Return the machine's state, image, previous image and refused image."""
    known = json.loads(person.check_output("info"))
    return known["state"], known["image"], known["previous"], known["refused"]


def boot_of(person: Person) -> str:
    return person.check_output("ssh", "cat /proc/sys/kernel/random/boot_id")


def test_an_upgrade_boots_the_newer_image_and_a_rollback_the_old_one(machine: Person, release: Release) -> None:
    _, old, *_ = facts(machine)
    boot = boot_of(machine)
    same = json.loads(machine.check_output("upgrade", "--json"))
    assert (same["changed"], same["image"]["sha256"], same["state"]) == (False, old, "running")
    assert boot_of(machine) == boot

    release.publish_good()
    upgraded = json.loads(machine.check_output("upgrade", "--json"))
    new = upgraded["image"]["sha256"]
    assert (upgraded["changed"], new != old) == (True, True)
    assert facts(machine) == ("running", new, old, "")
    assert boot_of(machine) != boot
    check_data(machine)

    assert json.loads(machine.check_output("rollback", "--json"))["image"]["sha256"] == old
    assert facts(machine) == ("running", old, "", new)
    check_data(machine)
    none = machine.b2d("rollback")
    assert (none.returncode, b"try: b2d upgrade" in none.stderr) == (1, True)


def test_an_image_that_does_not_boot_is_rolled_back_and_not_used_again(machine: Person, release: Release) -> None:
    _, old, *_ = facts(machine)
    release.publish_failing()
    completed = machine.b2d("upgrade", "-v")
    stderr = completed.stderr.decode()
    assert completed.returncode == 1, stderr
    assert "did not start with the image" in stderr
    assert "and was rolled back to" in stderr
    assert "this image was made so" in stderr
    assert facts(machine)[:2] == ("running", old)
    check_data(machine)
    machine.check_output("restart")
    assert facts(machine)[:2] == ("running", old)


def test_an_image_with_an_unexpected_kernel_is_rolled_back(machine: Person, release: Release) -> None:
    _, old, *_ = facts(machine)
    release.publish_with_kernel("6.99.9")
    completed = machine.b2d("upgrade")
    assert completed.returncode == 1
    assert "it runs Linux " in completed.stderr.decode()
    assert facts(machine)[:2] == ("running", old)
    check_data(machine)


def test_a_saved_machine_is_upgraded_only_after_confirmation(machine: Person, release: Release) -> None:
    boot = boot_of(machine)
    machine.check_output("save")
    release.publish_good()
    refused = machine.b2d("upgrade")
    assert (refused.returncode, b"try: --yes" in refused.stderr) == (2, True)
    assert facts(machine)[0] == "saved"
    machine.check_output("upgrade", "--yes")
    assert facts(machine)[0] == "running"
    assert boot_of(machine) != boot
    check_data(machine)


def test_a_killed_upgrade_is_continued(machine: Person, release: Release) -> None:
    _, old, *_ = facts(machine)
    release.publish_good()
    command = [str(B2D), "upgrade"]
    running = subprocess.Popen(command, env=machine.environment, cwd=machine.folder, stderr=subprocess.DEVNULL)
    wait_until(lambda: spec_of(machine).image != old, condition="the newer image", timeout_s=LIMIT_S)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert spec_of(machine).previous == old
    upgraded = json.loads(machine.check_output("upgrade", "--json"))
    assert upgraded["changed"]
    assert facts(machine) == (
        "stopped" if upgraded["state"] == "stopped" else "running",
        upgraded["image"]["sha256"],
        old,
        "",
    )
    machine.check_output("up")
    check_data(machine)


def spec_of(person: Person) -> MachineSpec:
    spec = MachineStore(person.home).read(NAME)
    assert spec is not None
    return spec
