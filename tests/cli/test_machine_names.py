"""Machine names: the same rules wherever a name is given, and nothing is created for an invalid one."""

import json
import shutil
from pathlib import Path

import pytest

from b2d.machine_names import HINT
from b2d.machine_store.store import MachineStore
from tests.support.cli import Prompt
from tests.support.fakes import a_spec

BAD = [
    *(
        "..",
        ".",
        ".a",
        "-a",
        "_a",
        "a.",
        "a...",
        "a b",
        "a ",
        "a/b",
        "/etc",
        "../../etc",
        "a\\b",
        "C:",
        "a\nb",
        "ä",
        "²",
    ),
    *("²", "CON", "nul", "Aux", "prn.txt", "com1", "LPT9.a.b", "x" * 64),
]
GOOD = ["a", "9", "A.b_c-d", "x" * 63, "con1", "console", "com", "com10", "nul-", "a-"]


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    return Prompt(tmp_path, {"B2D_DRIVER": "qemu"})


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_name_is_refused_from_every_source(prompt: Prompt, name: str) -> None:
    quoted = json.dumps(name)
    profile = prompt.folder / "profile"
    profile.write_text(f"VM = {quoted}\n")
    for typed in ("status", "shellinit", "shellinit -q", "ip"):
        results = {
            "--vm": prompt.b2d(*typed.split(), f"--vm={name}"),
            "B2D_VM": prompt.b2d(*typed.split(), B2D_VM=name),
            f"{profile}:1": prompt.b2d(*typed.split(), BOOT2DOCKER_PROFILE=str(profile)),
        }
        for place, answer in results.items():
            assert (answer.code, answer.out) == (2, "")
            assert answer.err == f"b2d: {place}: {name!r} is not a valid machine name\n     try: {HINT}\n"
    assert not prompt.home.root.exists()


@pytest.mark.parametrize("verb", ["init", "up", "stop", "delete --yes", "info", "download", "set memory=640", "logs"])
def test_every_verb_refuses_an_invalid_name_and_creates_nothing(prompt: Prompt, verb: str) -> None:
    prompt.home.root.mkdir()
    prompt.home.config.write_text('\nvm = "../.."\n')
    result = prompt.b2d(*verb.split())
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"b2d: {prompt.home.config}:2: '../..' is not a valid machine name\n")
    assert [path.name for path in prompt.home.root.iterdir()] == ["config.toml"]


def test_an_invalid_name_is_not_stored_in_the_settings(prompt: Prompt) -> None:
    result = prompt.b2d("config", "set", "vm=nul")
    assert result.code == 2
    assert not prompt.home.config.exists()


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_name_is_accepted(prompt: Prompt, name: str) -> None:
    assert prompt.b2d("status", f"--vm={name}").out == "absent\n"
    assert prompt.b2d("shellinit", "-q", B2D_VM=name).code == 3


def test_tab_offers_only_existing_machines(prompt: Prompt) -> None:
    store = MachineStore(prompt.home)
    for name in ("box", "Box2"):
        store.write(a_spec(name))
    for odd in ("half-made", "con", "a.", ".hidden", "a b"):
        (prompt.home.machines / odd).mkdir()
    for odd in ("con", "a.", ".hidden", "a b"):
        shutil.copy(prompt.home.machine("box").spec, prompt.home.machine(odd).spec)
    assert prompt.b2d("completion", "bash", "--", "--vm", "").out.split() == ["Box2", "box"]
    assert prompt.b2d("list").out.split()[0::1].count("con") == 0


def test_a_name_that_differs_only_in_case_is_refused_for_a_new_machine(prompt: Prompt) -> None:
    MachineStore(prompt.home).write(a_spec("box"))
    result = prompt.b2d("init", "--vm", "BOX")
    assert (result.code, result.out) == (2, "")
    assert result.err == "b2d: BOX differs only in case from the machine box\n     try: --vm box\n"
    assert not prompt.home.machine("BOX").folder.exists()
    assert prompt.b2d("status", "--vm", "BOX").out == "absent\n"


@pytest.mark.parametrize("verb", ["status", "stop", "ip", "shellinit", "info", "delete --yes"])
def test_a_name_in_another_case_is_reported_on_a_case_insensitive_file_system(prompt: Prompt, verb: str) -> None:
    MachineStore(prompt.home).write(a_spec("box"))
    (prompt.home.machines / "BOX").symlink_to("box")  # simulates the file systems of macOS and Windows
    result = prompt.b2d(*verb.split(), "--vm", "BOX")
    assert (result.code, result.out) == (2, "")
    assert result.err == "b2d: the machine is called box, not BOX\n     try: --vm box\n"
    assert prompt.home.machine("box").spec.exists()


def test_the_option_overrides_the_variable_and_the_variable_the_file(prompt: Prompt) -> None:
    store = MachineStore(prompt.home)
    for number, name in enumerate(("of-file", "of-variable", "of-option")):
        store.write(a_spec(name, memory_mib=640 + number))
    prompt.home.config.write_text('vm = "of-file"\n')

    def named(*words: str, **more: str) -> str:
        name = json.loads(prompt.b2d("info", *words, **more).out)["name"]
        assert isinstance(name, str)
        return name

    assert named() == "of-file"
    assert named(B2D_VM="of-variable") == "of-variable"
    assert named("--vm", "of-option", B2D_VM="of-variable") == "of-option"


def test_a_hundred_machines_are_listed(prompt: Prompt) -> None:
    store = MachineStore(prompt.home)
    names = sorted(f"box{number}" for number in range(100))
    for name in names:
        store.write(a_spec(name))
    assert [line.split()[0] for line in prompt.b2d("list").out.splitlines()[1:]] == names
