"""Another user's home can be read and is never written, also not through a link in a user's own home (case M9)."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.cli import main
from b2d.cli.base import Command
from b2d.doctor import fixes, home_folder, leftovers
from b2d.host.files import is_own
from b2d.host.package_managers import Installer
from b2d.machine_store.store import MachineStore
from b2d.paths import Home
from tests.support.fakes import FakeReporter, a_spec
from tests.support.other_user import Stranger, reachable_folder

SOMEBODY = 61234  # a uid without a user
LOOKING = ["list", "status", "info", "doctor", "config", "config path", "iso list", "version", "ip", "snapshot list"]
WRITING = [
    *("up", "init", "stop", "save", "restart", "reset", "poweroff", "delete --yes", "upgrade", "rollback"),
    *("set memory=700", "disk grow 40000", "disk compact", "snapshot create a", "snapshot delete a", "download debian"),
    *("config set memory=700", "config unset memory", "config edit", "doctor --fix", "support", "autostart enable"),
    *("autostart disable", "context", "context --use", "ssh-config", "ssh true", "cp :/a b", "iso build", "logs"),
    *("screenshot a.png", "import x"),
]


@pytest.fixture(name="folder")
def a_folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def a_home(folder: Path, owner: int) -> Home:
    """Create a home with a machine that is off and with world-readable keys."""
    home = Home(folder / ".b2d")
    MachineStore(home).write(a_spec())
    paths = home.machine("boot2docker-vm")
    paths.disk_qcow2.write_bytes(b"")
    paths.ssh_key.write_bytes(b"key")
    for path in (home.root, *home.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(path, owner, owner)
    return home


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return owner, mode and content of every file in the folder."""
    files = {}
    for path in folder.rglob("*"):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        files[str(path)] = (info.st_uid, info.st_mode, content)
    return files


@pytest.mark.needs("root")
@pytest.mark.parametrize("verb", LOOKING)
def test_root_reads_a_foreign_home_and_leaves_no_trace(folder: Path, verb: str) -> None:
    a_home(folder, SOMEBODY)
    before = contents(folder)
    result = Stranger(0, folder).b2d(*verb.split())
    assert "belongs to another user" not in result.err and "Traceback" not in result.err
    assert contents(folder) == before


@pytest.mark.needs("root")
@pytest.mark.parametrize(("uid", "owner"), [(0, SOMEBODY), (SOMEBODY, SOMEBODY + 1)])
@pytest.mark.parametrize("verb", WRITING)
def test_writing_verbs_refuse_a_foreign_home_in_one_sentence(folder: Path, verb: str, uid: int, owner: int) -> None:
    home = a_home(folder, owner)
    before = contents(folder)
    result = Stranger(uid, folder).b2d(*verb.split())
    assert result.out == "" and result.code in (2, 255), result.err  # 255: ssh reserves the codes for its command
    message = f"b2d: {home.root} belongs to another user (uid {owner}) and cannot be changed"
    assert result.err.splitlines()[0] == message and len(result.err.splitlines()) == 2
    assert contents(folder) == before


def test_only_verbs_declared_as_reading_accept_a_foreign_home() -> None:
    looks = set()
    context = main._create_group().make_context("b2d", ["list"])
    for verb in main.VERBS:
        command = main._create_group().get_command(context, verb)
        assert command is not None
        inner = {f"{verb} {name}": subcommand for name, subcommand in getattr(command, "commands", {}).items()} or {
            verb: command
        }
        looks |= {
            name for name, subcommand in inner.items() if isinstance(subcommand, Command) and subcommand.read_only
        }
    assert looks == {
        *("status", "run", "shellinit", "ip", "ports", "disk show", "snapshot list", "info", "list", "iso list"),
        *("config get", "config path", "doctor", "completion", "version"),
    }


@pytest.mark.needs("root")
def test_a_bug_is_not_logged_in_a_foreign_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from b2d.cli.unexpected_errors import report_unexpected

    home = a_home(folder, SOMEBODY)
    monkeypatch.setenv("B2D_HOME", str(home.root))
    before = contents(folder)
    assert "is in" not in report_unexpected(RuntimeError("x"), []).message
    assert contents(folder) == before


def test_a_bug_is_not_logged_through_a_symlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from b2d.cli.unexpected_errors import report_unexpected

    home, other = Home(tmp_path / "home"), tmp_path / "other"
    home.root.mkdir()
    other.write_text("mine")
    home.log.symlink_to(other)
    monkeypatch.setenv("B2D_HOME", str(home.root))
    report_unexpected(RuntimeError("x"), [])
    assert other.read_text() == "mine"


def test_permissions_are_fixed_for_files_of_this_home_and_not_through_links(tmp_path: Path) -> None:
    home, elsewhere = a_home(tmp_path, os.geteuid()), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "id_ed25519").write_text("other")
    other = elsewhere / "other"
    other.write_text("other")
    paths = home.machine("boot2docker-vm")
    paths.host_key.symlink_to(other)
    (home.machines / "linked").symlink_to(elsewhere)
    for path in (other, elsewhere / "id_ed25519"):
        path.chmod(0o644)
    elsewhere.chmod(0o755)
    finding = home_folder.check_secrets(home)
    assert paths.host_key not in finding.open_files
    reporter = FakeReporter()
    fixes.apply_fixes([finding], home, Installer(), reporter)
    assert [oct(path.stat().st_mode & 0o777) for path in (other, elsewhere / "id_ed25519", elsewhere)] == [
        *("0o644", "0o644", "0o755")
    ]
    assert paths.ssh_key.stat().st_mode & 0o777 == 0o600 and paths.folder.stat().st_mode & 0o777 == 0o700
    assert any("linked/id_ed25519" in text for text in reporter.texts("warn"))


def test_stale_files_are_searched_in_this_home_only(tmp_path: Path) -> None:
    home, elsewhere = a_home(tmp_path, os.geteuid()), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home.machines / "linked").symlink_to(elsewhere)
    home.cache.symlink_to(elsewhere)
    ours = home.machine("boot2docker-vm").folder / ".machine.json.abcd_123"
    for path in (elsewhere / ".bashrc", elsewhere / "holiday.iso", ours):
        path.write_text("mine")
        os.utime(path, (0, 0))
    assert leftovers.check_stale_files(home, time.time()).left_files == (ours,)


@pytest.mark.needs("root")
def test_an_own_file_is_a_regular_file_of_this_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    assert is_own(tmp_path / "file", tmp_path) and is_own(tmp_path, tmp_path)
    for name in ("link", "fifo", "none"):
        assert not is_own(tmp_path / name, tmp_path)
    os.chown(tmp_path / "file", SOMEBODY, SOMEBODY)
    assert not is_own(tmp_path / "file", tmp_path)
