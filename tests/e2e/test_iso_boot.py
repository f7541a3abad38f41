"""The ISO in a CD drive, started by the BIOS, as on hypervisors that b2d does not support."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from b2d.models import Image
from b2d.paths import Home
from tests.e2e.conftest import Person
from tests.support.network_namespace import host_network

pytestmark = [pytest.mark.qemu, pytest.mark.network, pytest.mark.needs("network")]


@pytest.fixture(scope="module")
def without_mksquashfs(test_cache: Path, person: Person, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Yield a user on a host without mksquashfs, who builds an image and makes a machine of it."""
    folder = tmp_path_factory.mktemp("plain")
    home = Home(folder / ".b2d")
    shutil.copytree(test_cache / "packages", home.cache / "packages")
    (folder / "bin").mkdir()
    environment = {**person.environment, "HOME": str(folder), "B2D_IMAGE": "plain.iso", "B2D_VM": "plain"}
    someone = replace(person, home=home, folder=folder, environment=environment)
    poor = replace(someone, environment={**environment, "PATH": str(folder / "bin")}, within=host_network())
    completed = poor.b2d("iso", "build", "-o", "plain.iso", "--arch", "amd64")
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.decode() == f"{folder / 'plain.iso'}\n"
    assert b"mksquashfs is not installed" in completed.stderr
    yield someone
    someone.b2d("delete", "--yes")


def start_by_bios(person: Person, name: str) -> None:
    """Start that user's machine by its BIOS and wait for Docker."""
    person.check_output("up")
    command = Path(f"/proc/{person.home.machine(name).qemu_pid.read_text().strip()}/cmdline").read_bytes().split(b"\0")
    assert b"-kernel" not in command and b"ide-cd,drive=iso" in command
    assert "BOOT_IMAGE=/boot/vmlinuz" in person.check_output("ssh", "cat /proc/cmdline")  # printed by isolinux
    tree = person.b2d("ssh", "--", "tar -cC / usr/bin/busybox").stdout
    person.docker("import", "--change", 'ENTRYPOINT ["/usr/bin/busybox"]', "-", "hello", stdin=tree)
    assert person.docker("run", "--rm", "hello", "echo", "from the CD") == "from the CD\n"


def test_the_iso_boots_from_a_bios_and_starts_docker(person: Person) -> None:
    for path in person.home.images.glob("*.json"):  # an image with an ISO only
        facts = json.loads(path.read_text())
        path.write_text(json.dumps({**facts, "kernel": None, "initrd": None, "root": None, "stored": None}))
    start_by_bios(person, "boot2docker-vm")
    assert person.check_output("ssh", "cat /sys/block/loop0/loop/backing_file").strip().endswith("root.squashfs")
    person.check_output("stop")


def test_an_image_built_without_mksquashfs_boots(without_mksquashfs: Person) -> None:
    start_by_bios(without_mksquashfs, "plain")


def test_the_uncompressed_iso_boots(person: Person, image: Image) -> None:
    assert image.stored is not None
    someone = replace(person, environment={**person.environment, "B2D_IMAGE": str(image.stored), "B2D_VM": "stored"})
    try:
        start_by_bios(someone, "stored")
    finally:
        someone.b2d("delete", "--yes")
