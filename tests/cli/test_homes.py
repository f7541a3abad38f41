"""Unusable homes, read and written by real processes: one error message, and no partial change."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.machine_store.store import MachineStore
from b2d.paths import Home
from tests.support.cli import B2D, LIMIT_S, Prompt
from tests.support.fakes import a_spec
from tests.support.other_user import Stranger, reachable_folder

SOMEBODY = 61234  # a uid without a user
READERS = ["status", "list", "config", "iso list", "config path", "shellinit -q", "info", "version", "completion bash"]
WRITERS = ["stop", "init", "delete --yes", "poweroff", "set memory=640", "config set memory=640", "download debian"]


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    return Prompt(tmp_path, {"B2D_DRIVER": "qemu"})


@pytest.fixture(name="folder")
def a_folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def a_home(folder: Path, owner: int, mode: int) -> Home:
    """Create a home with a machine that is off."""
    home = Home(folder / ".b2d")
    MachineStore(home).write(a_spec())
    home.machine("boot2docker-vm").disk_qcow2.write_bytes(b"")
    for path in (home.root, *home.root.rglob("*")):
        path.chmod(mode if path.is_dir() else mode & 0o666)
        os.chown(path, owner, owner)
    return home


def files_of(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("line_break", ["\n", "\r"])
@pytest.mark.parametrize("verb", ["status", "shellinit -q", "ip", "list", "init", "config path", "doctor"])
def test_a_home_with_a_line_break_in_its_path_is_refused(prompt: Prompt, verb: str, line_break: str) -> None:
    home = f"{prompt.folder}/a{line_break}b"
    result = prompt.b2d(*verb.split(), B2D_HOME=home)
    assert (result.code, result.out) == (2, "")
    message = f"b2d: {home!r} contains a line break, which B2D_HOME must not\n     try: set B2D_HOME to a folder\n"
    assert result.err == message
    assert not list(prompt.folder.iterdir())


@pytest.mark.parametrize("given", ["relative", "./relative", "~/relative"])
def test_a_home_is_relative_to_the_current_folder_or_to_the_home_directory(prompt: Prompt, given: str) -> None:
    assert prompt.b2d("config", "path", B2D_HOME=given).out == f"{prompt.folder}/relative/config.toml\n"
    assert prompt.b2d("shellinit", "-q", B2D_HOME=given).code == 3
    MachineStore(Home(prompt.folder / "relative")).write(a_spec())
    assert prompt.b2d("shellinit", "-q", B2D_HOME=given).code == 4
    assert len(prompt.b2d("list", B2D_HOME=given).out.splitlines()) == 2


def test_a_home_may_be_a_symlink(prompt: Prompt) -> None:
    MachineStore(Home(prompt.folder / "elsewhere")).write(a_spec())
    prompt.home.root.symlink_to("elsewhere")
    assert "boot2docker-vm" in prompt.b2d("list").out
    assert prompt.b2d("delete", "--yes").code == 0
    assert prompt.home.root.is_symlink()


@pytest.mark.needs("root")
@pytest.mark.parametrize("verb", ["status", "init"])
def test_without_a_home_directory_the_hint_is_to_set_b2d_home(folder: Path, verb: str) -> None:
    result = Stranger(SOMEBODY, folder).b2d(verb, without=("HOME",))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("b2d: ~/.b2d cannot be resolved: ")
    assert result.err.endswith("\n     try: set B2D_HOME to a folder\n")


@pytest.mark.needs("root")
def test_a_read_only_home_directory_is_reported_by_writing_verbs_only(folder: Path) -> None:
    stranger = Stranger(SOMEBODY, folder)  # root owns the folder
    assert stranger.b2d("status").out == "absent\n"
    assert stranger.b2d("list").code == 0
    for verb in ("init", "config set memory=640"):
        result = stranger.b2d(*verb.split())
        assert (result.code, result.out, result.err) == (1, "", f"b2d: {folder}/.b2d: Permission denied\n")


@pytest.mark.needs("root")
@pytest.mark.parametrize("verb", READERS)
@pytest.mark.parametrize("owner", [0, SOMEBODY + 1])
def test_an_open_home_of_another_user_can_be_read(folder: Path, verb: str, owner: int) -> None:
    a_home(folder, owner, 0o755)
    before = files_of(folder)
    result = Stranger(SOMEBODY, folder).b2d(*verb.split())
    assert result.code == (4 if verb in ("status", "shellinit -q") else 0)
    assert result.err == ""
    assert files_of(folder) == before


@pytest.mark.needs("root")
@pytest.mark.parametrize("verb", WRITERS)
@pytest.mark.parametrize(("uid", "owner"), [(SOMEBODY, 0), (SOMEBODY, SOMEBODY + 1), (0, SOMEBODY)])
def test_a_home_of_another_user_is_not_written_to_even_by_root(folder: Path, verb: str, uid: int, owner: int) -> None:
    home = a_home(folder, owner, 0o755)
    before = files_of(folder)
    result = Stranger(uid, folder).b2d(*verb.split())
    assert (result.code, result.out) == (2, "")
    message = f"b2d: {home.root} belongs to another user (uid {owner}) and cannot be changed"
    assert result.err.splitlines()[0] == message
    assert len(result.err.splitlines()) == 2
    assert files_of(folder) == before


@pytest.mark.needs("root")
@pytest.mark.parametrize("verb", ["status", "list", "shellinit -q", "stop", "init", "config", "completion bash -- st"])
def test_a_closed_home_of_another_user_is_reported_in_one_sentence(folder: Path, verb: str) -> None:
    home = a_home(folder, 0, 0o700)
    result = Stranger(SOMEBODY, folder).b2d(*verb.split())
    if verb.startswith("completion"):
        assert (result.code, result.err) == (0, "")
    else:
        assert (result.code, result.out) == (2, "")
        assert result.err == f"b2d: {home.config} cannot be read: Permission denied\n"


@pytest.mark.needs("root")
@pytest.mark.parametrize("verb", READERS)
def test_a_read_only_home_can_be_read(folder: Path, verb: str) -> None:
    a_home(folder, SOMEBODY, 0o555)
    result = Stranger(SOMEBODY, folder).b2d(*verb.split())
    assert result.code == (4 if verb in ("status", "shellinit -q") else 0)
    assert result.err == ""


@pytest.mark.needs("root")
@pytest.mark.parametrize("verb", [verb for verb in WRITERS if "debian" not in verb])
def test_a_read_only_home_is_reported_by_writing_verbs(folder: Path, verb: str) -> None:
    home = a_home(folder, SOMEBODY, 0o555)
    result = Stranger(SOMEBODY, folder).b2d(*verb.split())
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"b2d: {home.root}/")
    assert result.err.endswith(": Permission denied\n")
    assert len(result.err.splitlines()) == 1


@pytest.mark.needs("root")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_new_files_are_private_and_usable_with_any_umask(folder: Path, umask: int) -> None:
    os.chown(folder, SOMEBODY, SOMEBODY)
    stranger = Stranger(SOMEBODY, folder, umask)
    assert stranger.b2d("config", "set", "memory=640").code == 0
    assert stranger.b2d("config", "set", "cpus=1").code == 0
    for _ in range(2):
        result = stranger.b2d("stop")
        assert (result.code, result.err.splitlines()[0]) == (3, "b2d: there is no machine boot2docker-vm")
    files = [folder / ".b2d", *(folder / ".b2d").rglob("*")]
    assert len(files) > 3
    for path in files:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("verb", ["init", "config set memory=640", "set memory=640"])
def test_a_home_on_a_full_disk_is_reported_and_unchanged(prompt: Prompt, verb: str, tmp_path: Path) -> None:
    MachineStore(prompt.home).write(a_spec())
    prompt.home.config.write_text("cpus = 1\n")
    iso = tmp_path / "none.iso"
    iso.write_bytes(b"")
    before = files_of(prompt.home.machines) | {"config": prompt.home.config.read_bytes()}
    completed = subprocess.run(
        [B2D, *verb.split()],
        env=prompt.full_environment(B2D_IMAGE=str(iso)),
        cwd=prompt.folder,
        capture_output=True,
        timeout=LIMIT_S,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        check=False,
    )
    assert (completed.returncode in (1, 7), completed.stdout) == (True, b"")
    assert completed.stderr.startswith(b"b2d: ")
    assert b"bug" not in completed.stderr
    after = files_of(prompt.home.machines) | {"config": prompt.home.config.read_bytes()}
    left = {path: content for path, content in after.items() if not path.endswith((".lock", ".holder"))}
    assert left == before


@pytest.mark.needs("root")
@pytest.mark.parametrize("closed", ["", "machine.json"])
def test_an_unreadable_machine_hides_no_other_and_its_hint_makes_it_readable(folder: Path, closed: str) -> None:
    home = a_home(folder, SOMEBODY, 0o700)
    near = home.machine("near").folder
    shutil.copytree(home.machine("boot2docker-vm").folder, near)
    for path in (near, *near.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
    path = home.machine("boot2docker-vm").folder / closed
    path.chmod(0)
    stranger = Stranger(SOMEBODY, folder)
    result = stranger.b2d("list")
    assert result.code == 0
    assert sorted(line.split()[0] for line in result.out.splitlines()[1:]) == ["boot2docker-vm", "near"]
    assert "is a bug" not in stranger.b2d("doctor").err
    result = stranger.b2d("status")
    assert result.code == 1
    assert "Permission denied" in result.err
    hint = result.err.splitlines()[-1].removeprefix("     try: ")
    subprocess.run(["sh", "-c", hint], check=True)
    assert stranger.b2d("status").out == "stopped\n"
    path.chmod(0)
    result = stranger.b2d("delete", "--yes")
    assert result.code == (0 if closed else 1)
    assert home.machine("boot2docker-vm").folder.exists() is not bool(closed)
    assert closed or result.err.endswith(": Permission denied\n")
