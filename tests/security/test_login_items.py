"""Text from the environment or a folder adds no line of its own to a unit, an agent or a task (case L8)."""

import plistlib
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from b2d.errors import ConfigError
from b2d.host.autostart import items, templates
from b2d.host.autostart.templates import split_path
from b2d.machine_store.store import MachineStore
from b2d.paths import Home
from tests.support.cli import Prompt
from tests.support.fakes import a_spec

EVIL = "/tmp/x\n[Service]\nExecStartPre=/bin/false\n#"
CONTROLS = ["\n", "\r", "\x0b", "\x1b", "\x7f", "\x85", "\x01"]


def an_item(person: Path, system: str, **environ: str) -> items.LoginItem:
    home = Home(person / ".b2d")
    return items.login_item(home.machine("box"), home, {"HOME": str(person), **environ}, system)


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_a_path_entry_with_a_line_break_is_omitted_and_reported(tmp_path: Path, system: str) -> None:
    item = an_item(tmp_path, system, PATH=f'/usr/bin:{EVIL}:/opt/\udcff:/opt/100% "a":/bin')
    assert item.put()
    content = Path(item.where).read_bytes()
    assert b"ExecStartPre" not in content
    if system == "darwin":
        assert plistlib.loads(content)["EnvironmentVariables"] == {"PATH": '/usr/bin:/opt/100% "a":/bin'}
    else:
        lines = [line for line in content.decode().splitlines() if line.startswith("Environment=")]
        assert lines == ['Environment="PATH=/usr/bin:/opt/100%% \\\\"a\\\\":/bin"'.replace("\\\\", "\\")]
    remarks = [remark for remark in item.remarks() if "its PATH lacks this entry" in remark]
    assert len(remarks) == 2 and all("\n" not in remark for remark in remarks)


@pytest.mark.parametrize("control", CONTROLS)
def test_text_with_a_control_character_is_never_written(control: str) -> None:
    bad = f"a{control}b"
    makers: list[Callable[[], bytes]] = [
        lambda: templates.unit(bad, ["b2d"], ["b2d"], {}),
        lambda: templates.unit("mark", ["b2d", bad], ["b2d"], {}),
        lambda: templates.unit("mark", ["b2d"], ["b2d", bad], {}),
        lambda: templates.unit("mark", ["b2d"], ["b2d"], {"PATH": bad}),
        lambda: templates.unit("mark", ["b2d"], ["b2d"], {bad: "x"}),
        lambda: templates.plist("label", bad, ["b2d"], {}),
        lambda: templates.plist("label", "mark", [bad], {}),
        lambda: templates.plist("label", "mark", ["b2d"], {"PATH": bad}),
        lambda: templates.task(bad, "me", ["b2d"]),
        lambda: templates.task("mark", bad, ["b2d"]),
        lambda: templates.task("mark", "me", ["b2d", bad]),
    ]
    for make in makers:
        with pytest.raises(ConfigError, match="control character"):
            make()
    assert split_path(f"/bin:{bad}") == ("/bin", [bad])


def test_the_windows_user_name_is_escaped() -> None:
    content = templates.task("mark", 'PC\\<me> & "you"', ["b2d"])
    texts = [element.text for element in ElementTree.fromstring(content).iter() if element.tag.endswith("UserId")]
    assert texts == ['PC\\<me> & "you"'] * 2


@pytest.mark.needs("linux")
def test_the_verb_reports_omitted_entries(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path, {"B2D_DRIVER": "qemu"})
    MachineStore(prompt.home).write(a_spec())
    path = prompt.full_environment()["PATH"]
    result = prompt.b2d("autostart", "enable", PATH=f"{path}:{EVIL}")
    assert result.code == 0, result.err
    assert "its PATH lacks this entry" in result.err
    unit = next((tmp_path / ".config" / "systemd" / "user").glob("*.service"))
    assert "ExecStartPre" not in unit.read_text()
