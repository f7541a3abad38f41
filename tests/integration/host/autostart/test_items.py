"""Autostart of a machine at login: each system reads the intended command, and foreign items stay untouched."""

import os
import plistlib
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from b2d.errors import B2dError
from b2d.host.autostart import items
from b2d.host.autostart.items import AutostartExistsError, LoginItem, ScheduledTask, SystemdUnit
from b2d.host.autostart.templates import TASKS
from b2d.machine_store.store import MachineStore
from b2d.paths import Home
from tests.support.cli import Prompt
from tests.support.fakes import a_spec

ODD = ["plain", "two words", "100%d %h", "it's", 'a "quote"', "$HOME ${X}", "back\\slash \\n", "grüße 🐳", "#1;2"]
FILES = ["linux", "darwin"]


def an_item(person: Path, system: str, home: str = ".b2d", name: str = "box", path: str = "/usr/bin:/bin") -> LoginItem:
    new_home = Home(person / home)
    environ = {"HOME": str(person), "PATH": path, "USERDOMAIN": "PC", "USERNAME": "me"}
    return items.login_item(new_home.machine(name), new_home, environ, system)


def words(person: Path, verb: str, home: str = ".b2d") -> list[str]:
    """Return the command of an item."""
    return [sys.executable, "-P", "-m", "b2d", "--quiet", "--dir", str(person / home), "--vm", "box", verb]


def read_by_systemd(line: str) -> list[str]:
    """Split a line as systemd.service(5) and systemd.unit(5) define it."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]


def verified(path: Path) -> str:
    """Return the complaints of systemd-analyze verify."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(path.parent), "XDG_RUNTIME_DIR": str(path.parent)}
    completed = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    return (
        completed.stderr
        if completed.returncode
        else "".join(line for line in completed.stderr.splitlines() if path.name in line)
    )


@pytest.mark.parametrize("home", ODD)
def test_systemd_parses_the_unit_as_intended(tmp_path: Path, home: str) -> None:
    item = an_item(tmp_path, "linux", home, path=f"/usr/bin:/{home}")
    assert item.put()
    unit = Path(item.where)
    assert verified(unit) == ""
    lines = dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line)
    assert read_by_systemd(lines["ExecStart"]) == ["/usr/bin/env", *words(tmp_path, "up", home)]
    assert read_by_systemd(lines["ExecStop"]) == ["/usr/bin/env", *words(tmp_path, "stop", home)]
    assert read_by_systemd(lines["Environment"].replace("$", "$$")) == [f"PATH=/usr/bin:/{home}"]
    wanted = unit.parent / "default.target.wants" / unit.name
    assert wanted.samefile(unit)


@pytest.mark.parametrize(
    ("good", "bad"), [("Type=oneshot", "Type=onceshot"), ("/usr/bin/env", "/none/env"), ('"PATH', '"PA%T')]
)
def test_systemd_analyze_finds_errors_in_a_unit(tmp_path: Path, good: str, bad: str) -> None:
    item = an_item(tmp_path, "linux")
    item.put()
    unit = Path(item.where)
    unit.write_text(unit.read_text().replace(good, bad))
    assert verified(unit) != ""


@pytest.mark.parametrize("home", ODD)
def test_launchd_parses_the_agent_as_intended(tmp_path: Path, home: str) -> None:
    item = an_item(tmp_path, "darwin", home)
    assert item.put()
    plist = plistlib.loads(Path(item.where).read_bytes())
    assert Path(item.where) == tmp_path / "Library" / "LaunchAgents" / "b2d.box.plist"
    assert (plist["Label"], plist["RunAtLoad"], plist["AbandonProcessGroup"]) == ("b2d.box", True, True)
    assert plist["ProgramArguments"] == words(tmp_path, "up", home)
    assert plist["EnvironmentVariables"] == {"PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize("home", ODD)
def test_a_windows_task_contains_the_intended_command(tmp_path: Path, home: str) -> None:
    item = an_item(tmp_path, "win32", home)
    assert isinstance(item, ScheduledTask)
    assert item.content.startswith((b"\xff\xfe", b"\xfe\xff"))
    root = ElementTree.fromstring(item.content)
    assert root.tag == f"{{{TASKS}}}Task"
    assert [child.tag.partition("}")[2] for child in root] == [
        "RegistrationInfo",
        "Triggers",
        "Principals",
        "Settings",
        "Actions",
    ]

    def text(path: str) -> str:
        return root.findtext("/".join(f"{{{TASKS}}}{name}" for name in path.split("/"))) or ""

    assert text("Actions/Exec/Command") == sys.executable
    assert text("Actions/Exec/Arguments") == subprocess.list2cmdline(words(tmp_path, "up", home)[1:])
    assert text("Triggers/LogonTrigger/UserId") == text("Principals/Principal/UserId") == "PC\\me"


@pytest.mark.parametrize("system", FILES)
def test_it_is_created_once_updated_and_removed(tmp_path: Path, system: str) -> None:
    item = an_item(tmp_path, system)
    assert not item.is_on()
    assert not item.remove()
    assert (item.put(), item.put(), item.is_on()) == (True, False, True)
    moved = an_item(tmp_path, system, path="/elsewhere")
    assert (moved.is_on(), moved.put(), moved.put()) == (True, True, False)
    assert b"/elsewhere" in Path(item.where).read_bytes()
    assert (item.remove(), item.remove(), item.is_on()) == (True, False, False)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir() or path.is_symlink()] == []


@pytest.mark.parametrize("system", FILES)
@pytest.mark.parametrize("theirs", [b"", b"mine\n", b"<?xml version='1.0'?><plist><array/></plist>", b"\xff\xfe"])
def test_a_foreign_file_of_that_name_is_unchanged(tmp_path: Path, system: str, theirs: bytes) -> None:
    item = an_item(tmp_path, system)
    path = Path(item.where)
    path.parent.mkdir(parents=True)
    path.write_bytes(theirs)
    check_left_alone(item)
    assert path.read_bytes() == theirs
    path.unlink()
    path.symlink_to("nowhere")
    check_left_alone(item)
    assert path.is_symlink()


@pytest.mark.parametrize("system", FILES)
def test_an_item_of_another_home_is_unchanged(tmp_path: Path, system: str) -> None:
    other = an_item(tmp_path, system, "other home")
    other.put()
    check_left_alone(an_item(tmp_path, system))
    assert other.is_on()


def check_left_alone(item: LoginItem) -> None:
    assert not item.is_on()
    with pytest.raises(AutostartExistsError, match="not this machine's") as caught:
        item.put()
    assert caught.value.hint
    assert not item.remove()


def test_a_unit_disabled_by_hand_is_off_until_it_is_enabled(tmp_path: Path) -> None:
    item = an_item(tmp_path, "linux")
    item.put()
    assert isinstance(item, SystemdUnit)
    item.link.unlink()
    assert not item.is_on()
    assert (item.put(), item.is_on()) == (True, True)


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "Library").write_text("no folder")
    with pytest.raises(B2dError, match="Library"):
        an_item(tmp_path, "darwin").put()


SCHTASKS = """#!/bin/sh
# keeps tasks as Task Scheduler does, in one folder
while [ $# -gt 0 ]; do
    case $1 in
    /Query | /Create | /Delete) verb=$1 ;;
    /TN) name=$2 ;;
    /XML) xml=$2 ;;
    esac
    shift
done
case $verb in
/Query) cat "$KEPT/$name" ;;
/Create) cp "$xml" "$KEPT/$name" ;;
/Delete) rm "$KEPT/$name" ;;
esac
"""


def test_a_windows_task_is_created_and_removed_and_foreign_tasks_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for schtasks keeps the tasks in files, as there was no Windows to test on."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "schtasks").write_text(SCHTASKS)
    (tmp_path / "bin" / "schtasks").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("KEPT", str(tmp_path))
    item = an_item(tmp_path, "win32")
    Home(tmp_path / ".b2d").machine("box").folder.mkdir(parents=True)
    assert not item.is_on()
    assert (item.put(), item.put(), item.is_on()) == (True, False, True)
    assert list(Home(tmp_path / ".b2d").machine("box").folder.iterdir()) == []
    assert isinstance(item, ScheduledTask)
    check_left_alone(replace(item, mark="b2d-another"))
    assert (item.remove(), item.remove(), item.is_on()) == (True, False, False)


def test_the_verb_enables_and_disables_it_and_delete_removes_it(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path, {"B2D_DRIVER": "qemu", "B2D_HOME": str(tmp_path / ".b2d")})
    result = prompt.b2d("autostart", "enable")
    assert (result.code, result.out) == (3, "")
    MachineStore(prompt.home).write(a_spec())
    assert prompt.b2d("autostart").out == "disabled\n"
    result = prompt.b2d("autostart", "enable")
    unit = tmp_path / ".config" / "systemd" / "user" / "b2d-boot2docker-vm.service"
    assert (result.code, result.out) == (0, "")
    assert f"boot2docker-vm starts at login: {unit}\n" in result.err
    assert verified(unit) == ""
    assert prompt.b2d("autostart").out == "enabled\n"
    line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStop="))
    stop = read_by_systemd(line.removeprefix("ExecStop="))
    assert prompt.run(stop, B2D_HOME="/nowhere", B2D_VM="other").code == 0  # the configured machine is off
    assert prompt.b2d("autostart", "disable").code == 0
    assert not unit.exists()
    prompt.b2d("autostart", "enable")
    assert prompt.b2d("delete", "--yes").code == 0
    assert not unit.exists()
    assert prompt.b2d("autostart", "disbale").code == 2
