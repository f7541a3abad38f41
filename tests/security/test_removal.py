"""`delete`, `doctor --fix` and other clean-ups remove b2d's own files by name: nothing else, and through no link.

Case M2 of the attacks, and D1 and D2 of the incidents.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from b2d.host.file_removal import SET_ASIDE, OwnNames, move_aside, remove, remove_own
from b2d.machine_store import folder_removal
from b2d.machine_store.own_files import MACHINE
from b2d.paths import MachinePaths
from tests.cli.test_images import two_machines
from tests.support.cli import Prompt, Result
from tests.support.fake_machine import Box

SECRET = "what only this person has"


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    return two_machines(tmp_path)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Create a folder of the user's own, with some names that machine files have."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("notes", "id_ed25519", "known_hosts", "env", "disk.qcow2"):
        (folder / name).write_text(SECRET)
    (folder / "certs").mkdir()
    (folder / "certs" / "key.pem").write_text(SECRET)
    return folder


def untouched(folder: Path) -> bool:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files) == 6 and all(path.read_text() == SECRET for path in files)


def delete_machine(prompt: Prompt, name: str = "box") -> Result:
    return prompt.b2d("delete", "--yes", "--vm", name)


# links


def test_a_symlink_in_place_of_a_machine_is_removed_and_its_target_stays(prompt: Prompt, precious: Path) -> None:
    link = prompt.home.machines / "linked"
    link.symlink_to(precious)
    for verb in (["list"], ["status"], ["up"], ["init"], ["stop"], ["doctor", "--fix"]):
        prompt.b2d(*verb, "--vm", "linked")
        assert untouched(precious), verb
    result = delete_machine(prompt, "linked")
    assert result.code == 0
    assert str(precious) in result.err
    assert not link.is_symlink()
    assert untouched(precious)


def test_deleting_a_machine_behind_a_symlink_removes_the_link_only(prompt: Prompt, tmp_path: Path) -> None:
    """Users move a machine to another disk this way; the other files there are theirs."""
    folder, elsewhere = prompt.home.machine("box").folder, tmp_path / "large disk"
    folder.rename(elsewhere)
    (elsewhere / "notes").write_text(SECRET)
    before = sorted(path.name for path in elsewhere.iterdir())
    folder.symlink_to(elsewhere)
    assert prompt.b2d("status", "--vm", "box").out == "stopped\n"
    result = delete_machine(prompt)
    assert (result.code, str(elsewhere) in result.err) == (0, True)
    assert not folder.is_symlink()
    assert sorted(path.name for path in elsewhere.iterdir()) == before
    assert prompt.b2d("status", "--vm", "box").code == 3


@pytest.mark.parametrize("name", ["certs", "authority", "virtualbox", "nothing", ".screen-abcdefgh"])
def test_a_symlink_in_place_of_a_subfolder_is_not_followed(prompt: Prompt, precious: Path, name: str) -> None:
    place = prompt.home.machine("box").folder / name
    if place.exists():
        shutil.rmtree(place)
    place.symlink_to(precious)
    assert delete_machine(prompt).code == 0
    assert not prompt.home.machine("box").folder.exists()
    assert untouched(precious)


@pytest.mark.parametrize("name", ["disk.qcow2", "machine.json.copy", "serial.log", "qmp.sock", "env", "companion.log"])
def test_a_symlink_in_place_of_a_machine_file_is_removed_and_its_target_stays(
    prompt: Prompt, precious: Path, name: str
) -> None:
    place = prompt.home.machine("box").folder / name
    place.unlink(missing_ok=True)
    place.symlink_to(precious / "notes")
    assert delete_machine(prompt).code == 0
    assert not prompt.home.machine("box").folder.exists()
    assert untouched(precious)


def test_doctor_removes_only_files_of_b2d(prompt: Prompt, precious: Path) -> None:
    home = prompt.home
    home.cache.mkdir()
    home.images.mkdir(exist_ok=True)
    theirs = [home.root / ".gitignore", home.root / ".git" / "config", home.cache / "debian-13.iso", home.root / ".env"]
    ours = [
        home.cache / f"{'0' * 32}.part",
        home.machine("box").folder / ".env.abcdefgh",
        home.images / ".1.unfinished",
    ]
    for path in (*theirs, *ours):
        path.parent.mkdir(exist_ok=True)
        path.write_text(SECRET)
    (home.images / ".b2d-abcdefgh").symlink_to(precious)
    (home.machines / "linked").symlink_to(precious)
    (precious / ".env.abcdefgh").write_text(SECRET)
    for path in (*theirs, *ours, precious / ".env.abcdefgh"):
        os.utime(path, (0, 0))
    prompt.b2d("doctor", "--fix")
    assert [path for path in theirs if not path.exists()] == []
    assert [path for path in ours if path.exists()] == []
    assert (precious / ".env.abcdefgh").exists()
    (precious / ".env.abcdefgh").unlink()
    assert untouched(precious)


# files that are not b2d's


def test_a_folder_that_was_never_a_machine_is_not_deleted(prompt: Prompt) -> None:
    folder = prompt.home.machines / "photos"
    (folder / "2014").mkdir(parents=True)
    (folder / "2014" / "cat.jpg").write_text(SECRET)
    assert "photos" not in prompt.b2d("list").out + prompt.b2d("list").err
    result = delete_machine(prompt, "photos")
    assert (result.code, "is not deleted" in result.err) == (0, True)
    assert (folder / "2014" / "cat.jpg").read_text() == SECRET


def test_foreign_files_in_a_machine_folder_stay_and_are_named(prompt: Prompt) -> None:
    folder = prompt.home.machine("box").folder
    (folder / "backup").mkdir()
    (folder / "backup" / "disk.qcow2").write_text(SECRET)
    (folder / "notes.txt").write_text(SECRET)
    result = delete_machine(prompt)
    assert result.code == 0
    assert "backup, notes.txt" in result.err
    assert sorted(path.name for path in folder.iterdir()) == ["backup", "notes.txt"]
    assert (folder / "backup" / "disk.qcow2").read_text() == SECRET
    assert "box" not in prompt.b2d("list").out
    assert "is not deleted" in delete_machine(prompt).err


@pytest.mark.parametrize("name", ["disk.qcow2", "serial.log", "seed.img", "known_hosts", "machine.json", "certs"])
def test_a_folder_in_place_of_a_file_is_moved_with_its_content(prompt: Prompt, name: str) -> None:
    place = prompt.home.machine("box").folder / name
    if place.is_file():
        place.unlink()
    place.mkdir(exist_ok=True)
    (place / "inside").mkdir()
    (place / "inside" / "notes").write_text(SECRET)
    result = delete_machine(prompt)
    assert result.code == 0
    assert not prompt.home.machine("box").folder.exists()
    set_aside = (prompt.home.root / SET_ASIDE) / f"box.{name}"
    assert str(set_aside) in result.err
    assert (set_aside / "inside" / "notes").read_text() == SECRET
    assert (prompt.home.root / SET_ASIDE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["disk.qcow2", "serial.log", "qmp.sock", "certs", "authority"])
def test_an_empty_folder_in_place_of_a_file_is_removed(prompt: Prompt, name: str) -> None:
    place = prompt.home.machine("box").folder / name
    place.unlink(missing_ok=True)
    place.mkdir()
    result = delete_machine(prompt)
    assert (result.code, result.err) == (0, "box is deleted\n")
    assert not prompt.home.machine("box").folder.exists()
    assert not (prompt.home.root / SET_ASIDE).exists()


# files that block a reader


def a_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def never(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


def brackets(path: Path) -> None:
    path.write_text("[" * 100_000)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 34)


IN_THE_WAY: dict[str, Callable[[Path], None]] = {
    "a FIFO": a_fifo,
    "an endless device": endless,
    "a dangling link": never,
    "100,000 brackets": brackets,
    "16 GiB of zeros": huge,
}
READ = (
    "machine.json",
    "machine.json.copy",
    "env",
    "qemu.json",
    "qemu.pid",
    "saved.json",
    "companion.json",
    "disk.qcow2",
)


@pytest.mark.parametrize("thing", IN_THE_WAY)
@pytest.mark.parametrize("name", READ)
def test_no_special_file_in_a_machine_folder_blocks_a_command_or_the_removal(
    prompt: Prompt, name: str, thing: str
) -> None:
    IN_THE_WAY[thing](prompt.home.machine("box").folder / name)
    for verb in ("status", "shellinit", "info", "stop", "doctor"):
        result = prompt.b2d(verb, "--vm", "box")
        assert "a bug in b2d" not in result.err, (verb, result.err)
    assert prompt.b2d("status", "--vm", "near").out == "stopped\n"
    assert delete_machine(prompt).code == 0
    assert not os.path.lexists(prompt.home.machine("box").folder)


@pytest.mark.parametrize("thing", IN_THE_WAY)
@pytest.mark.parametrize("name", [".box.holder", "../config.toml", "../b2d.log"])
def test_no_special_file_in_the_home_blocks_a_command(prompt: Prompt, name: str, thing: str) -> None:
    IN_THE_WAY[thing](prompt.home.machines / name)
    for verb in ("status", "list", "stop", "config", "doctor"):
        result = prompt.b2d(verb, "--vm", "box")
        assert "a bug in b2d" not in result.err, (verb, result.err)


@pytest.mark.parametrize("thing", ["a file", "a dangling link", "a FIFO"])
def test_a_special_file_in_place_of_a_machine_folder_is_listed_and_can_be_removed(prompt: Prompt, thing: str) -> None:
    place = prompt.home.machines / "third"
    if thing == "a file":
        place.write_text("something")
    else:
        IN_THE_WAY[thing](place)
    assert "third" in prompt.b2d("list").out
    for verb in ("status", "up", "info"):
        result = prompt.b2d(verb, "--vm", "third", B2D_IMAGE="/nonexistent.iso")
        assert "a bug in b2d" not in result.err, (verb, result.err)
    assert delete_machine(prompt, "third").code == 0
    assert not os.path.lexists(place)


# the function itself


def test_only_own_names_are_removed_at_any_depth(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    own = OwnNames(("a", "b.*"), {"in": OwnNames(("c",), {"deep": OwnNames(("*",))})})
    for name in ("a", "b.1", "b", "in/c", "in/a", "in/deep/x", "in/deep/deeper/y"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert remove_own(folder, own) == ["b", "in"]
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert left == ["b", "in/a", "in/deep/deeper/y"]


def test_everything_is_removed_except_folders_with_content(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for make in (Path.touch, Path.mkdir, os.mkfifo, never, endless):
        make(place)
        assert remove(place)
        assert not os.path.lexists(place)
    place.mkdir()
    (place / "file").touch()
    assert not remove(place)
    for number in ("", ".1", ".2"):
        place.mkdir(exist_ok=True)
        (place / "file").touch()
        assert move_aside(place, tmp_path / "aside") == tmp_path / "aside" / f"{tmp_path.name}.place{number}"


def test_every_machine_path_has_a_known_name(tmp_path: Path) -> None:
    paths = MachinePaths(tmp_path / "machines" / "box")
    values = [getattr(paths, name) for name in dir(MachinePaths) if isinstance(getattr(MachinePaths, name), property)]
    inside = [path.relative_to(paths.folder).parts for path in values if path.is_relative_to(paths.folder)]
    assert len(inside) > 25
    for parts in inside:
        names = MACHINE
        for part in parts[:-1]:
            within = names.within(part)
            assert within is not None, parts
            names = within
        assert parts[-1] in names, parts


def test_a_machine_that_ran_leaves_no_files(box: Box) -> None:
    machine = box.create_machine(tls=True)
    machine.up()
    machine.delete()
    assert not box.paths.folder.exists()
    assert box.reporter.texts("warn") == []


def test_an_interrupted_removal_is_completed_by_the_next_one(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = prompt.home.machine("box")
    paths.spec.unlink()
    paths.spec_copy.unlink(missing_ok=True)
    assert "box" in prompt.b2d("list").out
    assert folder_removal.is_own_file(paths.folder)
    assert delete_machine(prompt).code == 0
    assert not paths.folder.exists()
