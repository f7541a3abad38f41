"""The commands upgrade and rollback on machines that need not be started."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from b2d.image.image_store import ImageStore
from b2d.machine_store.store import MachineStore
from b2d.models import Image
from tests.support.cli import B2D, Prompt
from tests.support.fakes import a_spec
from tests.support.kernel_images import a_b2d_iso

NAME = "boot2docker-vm"
OLD, NEW = "26.1.5-6.12.57", "26.1.5-6.12.63"


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a user whose stopped machine follows a file and has the older of its two images."""
    person = Prompt(tmp_path, {"B2D_DRIVER": "qemu"})
    iso = tmp_path / "b2d.iso"
    images = {}
    for version in (OLD, NEW):
        iso.write_bytes(a_b2d_iso(version))
        images[version] = ImageStore(person.home).add_copy(iso, str(iso))
    MachineStore(person.home).write(a_spec(source=str(iso), image=images[OLD].sha256))
    person.home.machine(NAME).disk_qcow2.write_bytes(b"QFI\xfb")
    return person


def stored_image(prompt: Prompt, version: str) -> Image:
    return next(image for image in ImageStore(prompt.home).all() if image.version == version)


def set_spec(prompt: Prompt, image: str, previous: str = "") -> None:
    """Store a spec with these images."""
    store = MachineStore(prompt.home)
    spec = store.read(NAME)
    assert spec is not None
    earlier = stored_image(prompt, previous).sha256 if previous else ""
    store.write(spec._replace(image=stored_image(prompt, image).sha256, previous=earlier))


def test_a_machine_with_the_newest_image_is_reported_and_unchanged(prompt: Prompt) -> None:
    set_spec(prompt, NEW)
    before = prompt.home.machine(NAME).spec.read_bytes()
    result = prompt.b2d("upgrade")
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines()[-1] == f"{NAME} has the newest image already: {NEW}"
    assert prompt.home.machine(NAME).spec.read_bytes() == before
    document = json.loads(prompt.b2d("upgrade", "--json").out)
    iso = stored_image(prompt, NEW)
    assert document == {
        "name": NAME,
        "changed": False,
        "state": "stopped",
        "image": {"sha256": iso.sha256, "version": NEW, "source": iso.source},
        "before": "",
    }


def test_without_a_terminal_upgrade_does_not_discard_a_saved_state(prompt: Prompt) -> None:
    prompt.home.machine(NAME).qemu_saved.write_text("{}")
    result = prompt.b2d("upgrade", "--json")
    error = json.loads(result.out)["error"]
    assert (result.code, error["exit_code"], error["hint"]) == (2, 2, "--yes")
    assert f"be resumed, shut down cleanly, and started with the image {NEW}" in error["message"]
    set_spec(prompt, NEW, OLD)
    result = prompt.b2d("rollback")
    assert (result.code, result.err.splitlines()[-1]) == (2, "     try: --yes")
    assert prompt.b2d("status").out == "saved\n"


def test_upgrade_asks_for_confirmation_on_a_terminal(prompt: Prompt) -> None:
    prompt.home.machine(NAME).qemu_saved.write_text("{}")
    leader, follower = pty.openpty()
    os.write(leader, b"n\n")
    completed = subprocess.run(
        [B2D, "upgrade"], stdin=follower, capture_output=True, env=prompt.full_environment(), check=False
    )
    os.close(leader)
    os.close(follower)
    stderr = completed.stderr.decode()
    assert (completed.returncode, completed.stdout) == (1, b"")
    assert f"started with the image {NEW}\ncontinue? [y/N]: " in stderr
    assert stderr.endswith("b2d: cancelled: nothing was changed\n")
    assert prompt.b2d("status").out == "saved\n"


def test_a_rollback_gives_a_stopped_machine_its_previous_image(prompt: Prompt) -> None:
    set_spec(prompt, NEW, OLD)
    result = prompt.b2d("rollback", "--json")
    document = json.loads(result.out)
    assert (result.code, document["changed"], document["state"]) == (0, True, "stopped")
    assert (document["image"]["version"], document["before"]) == (OLD, NEW)
    assert result.err == f"{NAME} is stopped with the image {OLD}, was {NEW}\n"
    known = json.loads(prompt.b2d("info").out)
    old, new = stored_image(prompt, OLD).sha256, stored_image(prompt, NEW).sha256
    assert (known["image"], known["previous"], known["refused"]) == (old, "", new)


@pytest.mark.parametrize("removed", [False, True])
def test_a_missing_previous_image_is_reported(prompt: Prompt, removed: bool) -> None:
    set_spec(prompt, NEW, OLD if removed else "")
    if removed:
        ImageStore(prompt.home).remove(stored_image(prompt, OLD).sha256)
    result = prompt.b2d("rollback")
    assert (result.code, result.out) == (1, "")
    first, second = result.err.splitlines()
    assert ("is no longer stored" if removed else "has no previous image") in first
    assert second == "     try: b2d upgrade"


def test_a_missing_source_leaves_the_machine_unchanged(prompt: Prompt) -> None:
    (prompt.folder / "b2d.iso").unlink()
    result = prompt.b2d("upgrade")
    assert (result.code, "b2d.iso" in result.err) == (1, True)
    assert json.loads(prompt.b2d("info").out)["image"] == stored_image(prompt, OLD).sha256
