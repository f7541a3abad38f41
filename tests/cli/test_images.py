"""Commands that ask no hypervisor: machines, images, settings and version, as text and as JSON."""

import json
import os
from pathlib import Path

import pytest

from b2d import __version__
from b2d.config.settings import Settings
from b2d.machine_store.store import MachineStore
from tests.support.cli import B2D, Prompt
from tests.support.fakes import a_spec


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a new user."""
    return Prompt(tmp_path)


def a_stopped_machine(prompt: Prompt, name: str, address: str = "127.0.59.103") -> None:
    """Write the files that `init` leaves, as far as the state depends on them."""
    MachineStore(prompt.home).write(a_spec(name, address=address))
    prompt.home.machine(name).disk_qcow2.write_bytes(b"QFI\xfb")


def two_machines(folder: Path) -> Prompt:
    """Return the prompt of a user with two machines: box and near."""
    prompt = Prompt(folder)
    a_stopped_machine(prompt, "box")
    a_stopped_machine(prompt, "near", "127.0.59.104")
    return prompt


def error(output: str) -> dict[str, object]:
    """Return the error of a JSON answer."""
    document = json.loads(output)
    assert list(document) == ["error"]
    assert set(document["error"]) == {"message", "hint", "exit_code"}
    fields: dict[str, object] = document["error"]
    return fields


def test_a_list_of_no_machines_is_empty(prompt: Prompt) -> None:
    result = prompt.b2d("list")
    assert (result.code, result.out, result.err) == (0, "", "there is no machine yet; create one: b2d up\n")
    assert prompt.b2d("-q", "list").err == ""
    assert json.loads(prompt.b2d("list", "--json").out) == []
    assert json.loads(prompt.b2d("iso", "list", "--json").out) == []


def test_machines_are_listed_as_a_table_and_as_json(prompt: Prompt) -> None:
    a_stopped_machine(prompt, "boot2docker-vm")
    a_stopped_machine(prompt, "b", "127.0.59.104")
    result = prompt.b2d("list")
    assert (result.code, result.err) == (0, "")
    assert [line.split() for line in result.out.splitlines()] == [
        ["NAME", "STATE", "DRIVER", "ADDRESS"],
        ["b", "stopped", "qemu", "127.0.59.104"],
        ["boot2docker-vm", "stopped", "qemu", "127.0.59.103"],
    ]
    assert json.loads(prompt.b2d("ls", "--json").out)[0] == {
        "name": "b",
        "state": "stopped",
        "driver": "qemu",
        "address": "127.0.59.104",
    }


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": 99}', '{"schema": 1, "odd": 2}'])
def test_a_broken_machine_hides_no_other(prompt: Prompt, content: str) -> None:
    a_stopped_machine(prompt, "a")
    a_stopped_machine(prompt, "b")
    spec = prompt.home.machine("a").spec
    spec.write_text(content)
    result = prompt.b2d("list")
    assert result.code == 0
    assert result.err.startswith(f"warning: {spec}")
    assert len(result.err.splitlines()) == 1
    assert [line.split()[:2] for line in result.out.splitlines()[1:]] == [["a", "unknown"], ["b", "stopped"]]
    first, second = json.loads(prompt.b2d("list", "--json").out)
    assert (first["state"], second["state"]) == ("unknown", "stopped")
    assert str(spec) in first["error"]


@pytest.mark.parametrize("verb", ["status", "ip", "info", "stop", "ssh"])
def test_a_broken_machine_is_reported_with_the_path_of_its_file(prompt: Prompt, verb: str) -> None:
    a_stopped_machine(prompt, "boot2docker-vm")
    spec = prompt.home.machine("boot2docker-vm").spec
    spec.write_text("{")
    result = prompt.b2d(verb)
    assert (result.code, result.out) == (255 if verb == "ssh" else 1, "")
    assert result.err.startswith(f"b2d: {spec} is not JSON: ")
    assert result.err.splitlines()[1:] == ["     try: b2d up"]


def test_a_stopped_machine_is_an_error_only_for_verbs_that_need_it_running(prompt: Prompt) -> None:
    a_stopped_machine(prompt, "boot2docker-vm")
    assert prompt.b2d("status").out == "stopped\n"
    assert prompt.b2d("status").code == 4
    for verb in ("ip", "logs --docker"):
        result = prompt.b2d(*verb.split())
        assert (result.code, result.out) == (4, "")
        assert result.err == "b2d: boot2docker-vm is stopped, not running\n     try: b2d up\n"
    result = prompt.b2d("shellinit")  # one line, since every new shell may print it
    assert (result.code, result.out, result.err) == (
        4,
        "",
        "b2d: boot2docker-vm is stopped, not running; try: b2d up\n",
    )
    assert prompt.b2d("ssh", "ls").code == 255
    assert prompt.b2d("stop").code == 0


def test_the_printed_settings_are_a_valid_config_toml(prompt: Prompt) -> None:
    result = prompt.b2d("config", B2D_MEMORY="1024")
    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) == len(Settings._fields)
    assert "memory = 1024" in result.out
    assert "# B2D_MEMORY" in result.out
    prompt.home.root.mkdir()
    prompt.home.config.write_text(result.out)
    assert prompt.b2d("config", "memory").out == "1024\n"
    assert f"# {prompt.home.config}" in prompt.b2d("config").out


def test_one_setting_is_printed_as_its_bare_value(prompt: Prompt) -> None:
    assert prompt.b2d("config", "vm").out == "boot2docker-vm\n"
    assert prompt.b2d("cfg", "memory", B2D_MEMORY="1024").out == "1024\n"
    assert prompt.b2d("--memory", "512", "config", "memory").out == "512\n"
    assert prompt.b2d("--no-tls", "config", "tls").out == "false\n"


def test_settings_in_json_include_their_origins(prompt: Prompt) -> None:
    settings = json.loads(prompt.b2d("config", "--json", "--vm", "other").out)
    assert settings["vm"] == {"value": "other", "origin": "--vm"}
    assert settings["restrict"] == {"value": True, "origin": "B2D_RESTRICT"}
    assert settings["memory"] == {"value": 2048, "origin": "default"}
    assert json.loads(prompt.b2d("config", "cpus", "--json").out) == {"cpus": {"value": 0, "origin": "default"}}


def test_the_version_is_one_line(prompt: Prompt) -> None:
    assert prompt.b2d("version").out == f"b2d version: v{__version__}\n" == prompt.b2d("--version").out
    assert json.loads(prompt.b2d("version", "--json").out) == {"b2d": __version__}


def test_states_in_json(prompt: Prompt) -> None:
    result = prompt.b2d("status", "--json")
    assert (result.code, json.loads(result.out)) == (3, {"name": "boot2docker-vm", "state": "absent"})
    a_stopped_machine(prompt, "boot2docker-vm")
    result = prompt.b2d("--vm", "boot2docker-vm", "status", "--json")
    assert (result.code, json.loads(result.out)["state"]) == (4, "stopped")
    known = json.loads(prompt.b2d("info").out)
    assert (known["name"], known["state"], known["running"]) == ("boot2docker-vm", "stopped", None)
    assert prompt.b2d("info", "--json").out == prompt.b2d("info").out


@pytest.mark.parametrize("typed", ["ip --json", "shellinit --json", "info --json", "--vm x ip --json"])
def test_an_error_is_json_too_with_json(prompt: Prompt, typed: str) -> None:
    result = prompt.b2d(*typed.split())
    name, hint = ("x", "b2d init --vm x") if "x" in typed.split() else ("boot2docker-vm", "b2d init")
    assert result.code == 3
    assert error(result.out) == {"message": f"there is no machine {name}", "hint": hint, "exit_code": 3}
    assert result.err == f"b2d: there is no machine {name}\n     try: {hint}\n"


@pytest.mark.parametrize(
    "typed",
    [
        "status --json --foo",
        "status --foo --json",
        "ls --json x",
        "config --json memry",
        "stat --json",
        "stop now --json",
    ],
)
def test_a_usage_error_is_json_with_json(prompt: Prompt, typed: str) -> None:
    result = prompt.b2d(*typed.split())
    assert result.code == 2
    assert error(result.out)["exit_code"] == 2


def test_a_json_option_of_the_guest_command_does_not_affect_b2d(prompt: Prompt) -> None:
    assert prompt.b2d("ssh", "docker", "info", "--json").out == ""
    assert prompt.b2d("ssh", "--vm", "../x", "--", "docker", "info", "--json").out == ""


def test_doctor_prints_one_document_even_where_nothing_works(prompt: Prompt) -> None:
    nothing = str(Path(B2D).parent)  # no QEMU is in PATH
    result = prompt.b2d("doctor", "--json", PATH=nothing)
    findings = {finding["name"]: finding for finding in json.loads(result.out)}
    assert (result.code, findings["qemu"]["verdict"]) == (6, "bad")
    result = prompt.b2d("doctor", PATH=nothing)
    assert result.code == 6
    assert "bad       qemu: " in result.out
    assert result.err.startswith("b2d: b2d cannot work on this host: qemu")


def test_doctor_runs_the_other_checks_if_the_settings_are_invalid(prompt: Prompt) -> None:
    prompt.home.root.mkdir(mode=0o700)
    prompt.home.config.write_text("memry = 4\n")
    result = prompt.b2d("doctor")
    assert result.code == 2
    assert result.out.startswith("bad       settings: ")
    assert "python: " in result.out
    assert "'memry': did you mean 'memory'?" in result.err
    as_document = prompt.b2d("doctor", "--json")
    assert as_document.code == 2
    assert json.loads(as_document.out)[0]["name"] == "settings"


def test_doctor_fix_reports_each_safe_fix_in_a_line_and_resolves_it(prompt: Prompt) -> None:
    a_stopped_machine(prompt, "boot2docker-vm")
    part, env = prompt.home.cache / f"{'0' * 32}.part", prompt.home.machine("boot2docker-vm").env
    prompt.home.cache.mkdir()
    part.touch()
    os.utime(part, (1, 1))
    env.write_text("address=127.0.59.103\n")
    findings = {finding["name"]: finding for finding in json.loads(prompt.b2d("doctor", "--json").out)}
    assert (findings["stale files"]["left_files"], findings["pointers"]["machine"]) == ([str(part)], "boot2docker-vm")
    result = prompt.b2d("doctor", "--fix")
    assert result.err.splitlines()[:2] == [
        f"removed {part}",
        "shells no longer use the stale variables of boot2docker-vm",
    ]
    assert "stale files: none" in result.out
    assert not part.exists() and not env.exists()
