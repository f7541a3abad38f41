"""Commands show and change settings: nothing that the user wrote is lost, and no invalid value takes effect."""

import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from b2d import machine_names
from b2d.config import editor as rewrite
from b2d.config import loader
from b2d.config.settings import Settings
from b2d.drivers.qemu import qemu_img
from b2d.errors import ConfigError
from b2d.machine_store.store import MachineStore
from b2d.network import endpoints
from b2d.paths import Home
from tests.support.cli import B2D, Prompt
from tests.support.fakes import a_spec

MINE = "# mine\nmemory = 1000  # enough\n\ncpus=2\n"
KEYS = sorted(Settings._fields)
LISTED = {  # valid items of the lists that hold no folders
    "registry_mirrors": ("https://one.example", "http://two.example:5000"),
    "insecure_registries": ("one.example:5000", "192.168.0.0/24"),
    "dns": ("192.168.0.1", "fd00::53"),
}


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a new user."""
    return Prompt(tmp_path)


def with_config(prompt: Prompt, text: str) -> Path:
    prompt.home.root.mkdir(exist_ok=True)
    prompt.home.config.write_text(text)
    return prompt.home.config


def editor(prompt: Prompt, script: str) -> dict[str, str]:
    """Return the environment with an editor that runs this script on the file $1."""
    path = prompt.folder / "an editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"VISUAL": f"'{path}'"}


@pytest.mark.parametrize("typed", ["config", "config get memory", "config unset cpus", "list", "status", "-v status"])
def test_the_variables_of_shellinit_do_not_change_the_output(prompt: Prompt, typed: str) -> None:
    result = prompt.b2d(*typed.split(), B2D_BEFORE="tcp://127.0.59.103:2376,,,,127.0.59.103")
    assert result == prompt.b2d(*typed.split())
    assert "BEFORE" not in result.out + result.err


def test_a_value_that_was_set_takes_effect_and_its_origin_is_reported(prompt: Prompt) -> None:
    result = prompt.b2d("config", "set", "memory=4096", "tls=no", "image=/a b.iso")
    assert (result.code, result.out) == (0, "")
    assert result.err == f"memory, tls, image: set in {prompt.home.config}\n"
    assert prompt.home.config.read_text() == 'memory = 4096\ntls = false\nimage = "/a b.iso"\n'
    assert stat.S_IMODE(prompt.home.config.stat().st_mode) == 0o600
    assert prompt.b2d("config", "get", "memory") == prompt.b2d("config", "memory")
    assert prompt.b2d("config", "memory").out == "4096\n"
    assert prompt.b2d("-q", "config", "set", "cpus", "3").err == ""
    assert json.loads(prompt.b2d("config", "cpus", "--json").out) == {
        "cpus": {"value": 3, "origin": str(prompt.home.config)}
    }


def test_a_setting_may_be_written_like_its_option(prompt: Prompt) -> None:
    assert prompt.b2d("config", "set", "stop-wait=7").code == 0
    assert prompt.home.config.read_text() == "stop_wait = 7\n"
    assert prompt.b2d("config", "stop-wait").out == prompt.b2d("config", "get", "stop-wait").out == "7\n"
    assert prompt.b2d("config", "unset", "stop-wait").code == 0


def test_lines_that_the_user_wrote_stay(prompt: Prompt) -> None:
    mine = with_config(prompt, MINE)
    prompt.b2d("config", "set", "memory=2000")
    assert mine.read_text() == MINE.replace("1000", "2000")
    prompt.b2d("config", "unset", "memory", "disk")
    assert mine.read_text() == "# mine\n\ncpus=2\n"
    assert prompt.b2d("config", "memory").out == "2048\n"


def test_several_values_are_set_together_or_not_at_all(prompt: Prompt) -> None:
    mine = with_config(prompt, MINE)
    result = prompt.b2d("config", "set", "memory=2000", "cpus=-1")
    assert (result.code, result.err) == (2, "b2d: cpus cannot be '-1'\n     try: from 0 to 256\n")
    assert mine.read_text() == MINE


@pytest.mark.parametrize(
    ("text", "message"), [("memry = 1\n", ":1: there is no setting"), ("memory =\n", " is not valid TOML")]
)
def test_an_invalid_file_is_not_overwritten(prompt: Prompt, text: str, message: str) -> None:
    mine = with_config(prompt, text)
    for typed in ("set cpus=2", "unset cpus"):
        result = prompt.b2d("config", *typed.split())
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"b2d: {mine}{message}")
    assert mine.read_text() == text


def test_a_variable_that_overrides_the_file_is_reported(prompt: Prompt) -> None:
    result = prompt.b2d("config", "set", "memory=4096", B2D_MEMORY="512")
    assert result.err.endswith(f"warning: B2D_MEMORY is set and overrides {prompt.home.config}\n")


def test_a_settings_file_that_is_a_symlink_stays_one(prompt: Prompt) -> None:
    target = prompt.folder / "dotfiles.toml"
    target.write_text(MINE)
    prompt.home.root.mkdir()
    prompt.home.config.symlink_to(target)
    prompt.b2d("config", "set", "memory=2000")
    assert prompt.home.config.is_symlink()
    assert target.read_text() == MINE.replace("1000", "2000")


def test_the_first_change_converts_the_profile_of_boot2docker(prompt: Prompt) -> None:
    profile = prompt.folder / ".boot2docker" / "profile"
    profile.parent.mkdir()
    profile.write_text('VM = "dev"\nMemory = 1024\nHostIP = "10.0.0.1"\n')
    result = prompt.b2d("config", "set", "memory=4096")
    assert result.code == 0
    assert prompt.home.config.read_text() == f'# converted from {profile}\nvm = "dev"\nmemory = 4096\n'
    assert prompt.b2d("config", "vm").out == "dev\n"
    assert prompt.b2d("config", "vm").err == ""
    assert profile.read_text().startswith('VM = "dev"\nMemory = 1024\n')


def test_the_path_is_printed_even_for_a_missing_or_invalid_file(prompt: Prompt) -> None:
    assert prompt.b2d("config", "path").out == f"{prompt.home.config}\n"
    with_config(prompt, "memory =\n")
    assert prompt.b2d("config", "path").out == f"{prompt.home.config}\n"
    assert prompt.b2d("config", "path", "--dir", "/x").out == "/x/config.toml\n"


def test_two_changes_at_once_both_take_effect(prompt: Prompt) -> None:
    wishes = ["memory=1000", "cpus=3", "disk=5000", "wait=77"]
    started = [
        subprocess.Popen([B2D, "config", "set", wish], env=prompt.full_environment(), stderr=subprocess.DEVNULL)
        for wish in wishes
    ]
    assert [process.wait(60) for process in started] == [0] * len(wishes)
    assert sorted(prompt.home.config.read_text().split("\n")[:-1]) == sorted(
        wish.replace("=", " = ") for wish in wishes
    )


def test_a_settings_file_that_another_process_is_changing_is_busy(prompt: Prompt) -> None:
    prompt.home.root.mkdir()
    with FileLock(prompt.home.config_lock):
        result = prompt.b2d("config", "set", "memory=1000")
    assert result.code == 8
    assert result.err.startswith(f"b2d: another b2d is changing {prompt.home.config}\n")


def test_an_editor_gets_the_effective_settings_and_its_file_takes_effect(prompt: Prompt) -> None:
    result = prompt.b2d("config", "edit", **editor(prompt, f'cp "$1" {prompt.folder}/seen; echo "memory = 700" >>"$1"'))
    assert (result.code, result.out, result.err) == (0, "", f"{prompt.home.config} is changed\n")
    text = (prompt.folder / "seen").read_text()
    assert "# memory = 2048\n" in text
    assert loader.parse_toml("", text) == []
    assert prompt.b2d("config", "memory").out == "700\n"
    mine = with_config(prompt, MINE)
    prompt.b2d("config", "edit", **editor(prompt, 'sed -i s/1000/2000/ "$1"'))
    assert mine.read_text() == MINE.replace("1000", "2000")
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600
    assert not prompt.home.config_draft.exists()


def test_an_editor_that_saves_no_change_changes_nothing(prompt: Prompt) -> None:
    result = prompt.b2d("config", "edit", **editor(prompt, "true"))
    assert (result.code, result.err) == (0, f"{prompt.home.config} is unchanged\n")
    assert [path.name for path in prompt.home.root.iterdir()] == [".config.lock"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("memry = 1", "config.draft.toml:5: there is no setting 'memry': did you mean 'memory'?"),
        ("disk = 1", "config.draft.toml:5: disk cannot be 1"),
        ("disk = ", "config.draft.toml is not valid TOML: Invalid value (at line 5, column 8)"),
    ],
)
def test_an_invalid_edit_is_reported_with_its_line_and_the_draft_is_preserved(
    prompt: Prompt, line: str, message: str
) -> None:
    mine = with_config(prompt, MINE)
    result = prompt.b2d("config", "edit", **editor(prompt, f'echo "{line}" >>"$1"'))
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0] == f"b2d: {message}"
    assert result.err.rstrip().endswith("b2d config edit")
    assert mine.read_text() == MINE
    assert prompt.b2d("config", "memory").out == "1000\n"
    result = prompt.b2d("config", "edit", **editor(prompt, f'sed -i "s/^{line}$/disk = 5000/" "$1"'))
    first, last = result.err.splitlines()
    assert first == f"continuing with the draft that was not valid last time: {prompt.home.config_draft}"
    assert (result.code, last) == (0, f"{mine} is changed")
    assert mine.read_text() == f"{MINE}disk = 5000\n"
    assert not prompt.home.config_draft.exists()


@pytest.mark.parametrize("content", [b"memory =\n", b"vm = '\xff'\n"])
def test_an_invalid_file_can_be_repaired_by_editing_it(prompt: Prompt, content: bytes) -> None:
    prompt.home.root.mkdir()
    prompt.home.config.write_bytes(content)
    result = prompt.b2d("config", "edit", **editor(prompt, 'echo "memory = 700" >"$1"'))
    assert (result.code, result.err) == (0, f"{prompt.home.config} is changed\n")
    assert prompt.b2d("config", "memory").out == "700\n"


def test_an_editor_that_fails_or_does_not_exist_is_reported(prompt: Prompt) -> None:
    mine = with_config(prompt, MINE)
    result = prompt.b2d("config", "edit", **editor(prompt, 'echo "cpus = 9" >"$1"; exit 3'))
    assert result.code == 1
    assert f"exited with code 3: {mine} is unchanged" in result.err
    assert mine.read_text() == MINE
    assert prompt.home.config_draft.read_text() == "cpus = 9\n"
    for nobody in ("no-such-editor -x", "'"):
        result = prompt.b2d("config", "edit", EDITOR=nobody)
        assert result.code == 1
        assert result.err.endswith("     try: EDITOR=nano b2d config edit\n")


def test_ctrl_c_in_an_editor_reaches_only_the_editor(prompt: Prompt) -> None:
    """The terminal sends the signal to both."""
    script = (
        f'trap \'echo "memory = 700" >>"$1"; exit 0\' INT; touch {prompt.folder}/open; while :; do sleep 0.05; done'
    )
    environment = prompt.full_environment(**editor(prompt, script))
    with subprocess.Popen([B2D, "config", "edit"], env=environment, start_new_session=True) as started:
        end = time.monotonic() + 30
        while not (prompt.folder / "open").exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(30) == 0
    assert prompt.b2d("config", "memory").out == "700\n"


def test_a_change_of_an_existing_machine_is_reported_with_when_it_takes_effect(prompt: Prompt) -> None:
    MachineStore(prompt.home).write(a_spec())
    qemu_img.create(prompt.home.machine("boot2docker-vm").disk_qcow2, 256, b"payload")
    result = prompt.b2d("set", "memory=640", "disk=1000")
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines() == [
        "memory of boot2docker-vm: 640, was 512, from its next start on",
        "disk of boot2docker-vm: 1000, was 256, from its next start on",
    ]
    known = json.loads(prompt.b2d("info").out)
    assert (known["memory_mib"], known["disk_mib"], known["has"]) == (640, 1000, {"disk_mib": 1000})
    assert prompt.b2d("set", "memory", "640").err == "boot2docker-vm has these values already\n"
    result = prompt.b2d("set", "--json", "cpus=2")
    assert json.loads(result.out) == {"cpus": {"key": "cpus", "before": 1, "after": 2, "counts": "start"}}
    prompt.b2d("set", "disk=1500")
    result = prompt.b2d("set", "disk=1499")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("b2d: the disk of boot2docker-vm has 1500 MiB and cannot shrink")


def text_of(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


@st.composite
def settings_to_set(draw: st.DrawFn) -> dict[str, object]:
    """Draw valid settings."""
    settings: dict[str, object] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=6)):
        usual = getattr(Settings(), key)
        if key in loader.CHOICES:
            settings[key] = draw(st.sampled_from(loader.CHOICES[key]))
        elif key in loader.RANGES:
            settings[key] = draw(st.integers(*loader.RANGES[key]))
        elif key == "address":
            settings[key] = draw(st.sampled_from(["", "127.0.0.1", "127.0.59.200"]))
        elif key == "vm":
            settings[key] = draw(
                st.text("aB9_-.", max_size=63).map(lambda rest: f"x{rest}z"[-63:]).filter(machine_names.is_valid)
            )
        elif isinstance(usual, bool):
            settings[key] = draw(st.booleans())
        elif isinstance(usual, tuple):
            settings[key] = tuple(
                draw(st.lists(st.sampled_from(LISTED.get(key, ["~", "/a b", "/\N{SNOWMAN}\x7f:ro"]))))
            )
        elif key in endpoints.HINTS:
            settings[key] = draw(st.sampled_from(["", "http://me:p%@:?w@proxy:3128", "proxy"]))
        elif key == "password":
            settings[key] = draw(st.from_regex(loader.PASSWORD, fullmatch=True))
        else:
            settings[key] = draw(st.text(st.characters(exclude_categories=["Cs"])))
    return settings


@given(settings_to_set(), settings_to_set(), st.sampled_from(["", MINE, "# nothing yet", 'vm = "a"\r\nwait=5 # s\r\n']))
def test_loaded_settings_are_those_set_and_not_unset(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, object], second: dict[str, object], text: str
) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    home.config.write_bytes(text.encode())
    before = loader.load(home, {}, {})
    for wanted in (first, second):
        rewrite.set_values(home, {}, {key: text_of(value) for key, value in wanted.items()})
    effective = loader.load(home, {}, {})
    wanted = first | second
    for key in KEYS:
        assert getattr(effective.settings, key) == wanted.get(key, getattr(before.settings, key))
        assert effective.origins[key] == (str(home.config) if key in wanted else before.origins[key])
    rewrite.unset_values(home, {}, tuple(KEYS))
    assert loader.load(home, {}, {}).settings == Settings()
    assert home.config.read_text().count("# ") == text.count("# nothing") + text.count("# mine")


def test_a_value_that_toml_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not UTF-8"):
        rewrite.set_values(Home(tmp_path), {}, {"image": "/\udcff"})
    assert not Home(tmp_path).config.exists()


def test_init_reports_differing_options_of_an_existing_machine_with_the_command_to_change_them(prompt: Prompt) -> None:
    MachineStore(prompt.home).write(a_spec(disk_mib=1000))
    qemu_img.create(prompt.home.machine("boot2docker-vm").disk_qcow2, 1000, b"payload")
    exists = "boot2docker-vm exists already\n"
    other = "boot2docker-vm was created with other values and keeps them; to change them: b2d set"
    assert prompt.b2d("init").err == exists
    assert prompt.b2d("init", "--memory=512", B2D_CPUS="1").err == exists
    assert prompt.b2d("init", "-m", "640", "--disksize=2000").err == f"{exists}{other} memory=640 disk=2000\n"
    assert prompt.b2d("init", B2D_CPUS="2").err == f"{exists}{other} cpus=2\n"
    with_config(prompt, "memory = 640\n")
    assert prompt.b2d("init").err == f"{exists}{other} memory=640\n"
    assert prompt.b2d("set", "memory=640").code == 0
    assert prompt.b2d("init").err == exists
    result = prompt.b2d("init", "--no-tls", "--image=debian")
    assert result.err == f"{exists}only new machines take --image, --no-tls; boot2docker-vm is unchanged\n"


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_is_an_option_before_and_after_every_verb(prompt: Prompt, key: str) -> None:
    kind, flag = type(getattr(Settings(), key)), f"--{key.replace('_', '-')}"
    number, text = ("7" if key == "cpus" else "1000"), loader.CHOICES.get(key, ("127.0.0.9",))[-1]
    first, other = LISTED.get(key, ("/a", "/b:ro"))
    for typed, value in {
        bool: [([flag], "true"), ([f"--no-{flag[2:]}"], "false")],
        int: [([flag, number], number), ([f"{flag}={number}"], number)],
        str: [([flag, text], endpoints.REDACTED if key == "password" else text)],
        tuple: [([f"{flag}={first}", flag, other], f'["{first}", "{other}"]'), ([flag, "none"], "[]")],
    }[kind]:
        for result in (prompt.b2d(*typed, "config", "get", key), prompt.b2d("config", "get", key, *typed)):
            assert (result.code, result.out, result.err) == (0, f"{value}\n", "")


def test_a_flag_wins_over_the_environment_and_that_over_the_file(prompt: Prompt) -> None:
    with_config(prompt, "stop_wait = 1\nrestrict = true\n")
    assert prompt.b2d("config", "stop_wait", B2D_STOP_WAIT="2").out == "2\n"
    assert prompt.b2d("config", "stop_wait", "--stop-wait=3", B2D_STOP_WAIT="2").out == "3\n"
    assert prompt.b2d("--no-restrict", "config", "restrict").out == "false\n"
    result = prompt.b2d("config", "--stop-wait=0")
    assert (result.code, result.err) == (2, "b2d: --stop-wait: stop_wait cannot be '0'\n     try: from 1 to 3600\n")
