"""The verbs on the command line: help, mistakes, and messages about a machine that does not exist."""

from pathlib import Path

import pytest

from b2d.cli.main import ALIASES, VERBS
from tests.support.cli import Prompt

THE_WORDS = (
    "init up stop restart poweroff reset save delete status info ip ssh shellinit download list iso version doctor "
    "config logs upgrade rollback start boot resume down halt suspend destroy rm cfg inspect env"
)
NOT_ABOUT_AN_EXISTING_ONE = (
    "init up start boot resume delete destroy rm status ssh list ls download iso config cfg doctor version completion "
    "support import"
)
ISO, CONFIG = ("build", "list"), ("get", "set", "unset", "path", "edit")
ARGUMENTS = {
    "snapshot": ["list"],
    "run": ["true"],
    "screenshot": ["screen.png"],
    "set": ["memory=640"],
    "cp": [":/x", "."],
    "autostart": ["enable"],
}
NO_MACHINE = "b2d: there is no machine boot2docker-vm\n     try: b2d init\n"


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a new user."""
    return Prompt(tmp_path)


def test_all_commands_and_aliases_of_2014_exist() -> None:
    assert set(THE_WORDS.split()) <= {*VERBS, *ALIASES}
    assert set(ALIASES.values()) <= set(VERBS)


@pytest.mark.parametrize(
    "verb", [*VERBS, *ALIASES, *(f"iso {name}" for name in ISO), *(f"config {name}" for name in CONFIG)]
)
def test_every_verb_explains_itself_with_an_example(prompt: Prompt, verb: str) -> None:
    result = prompt.b2d(*verb.split(), "--help")
    assert (result.code, result.err) == (0, "")
    usage, _, example = result.out.partition("Example:\n")
    assert usage.startswith(f"Usage: b2d {verb} ")
    assert "b2d" in example
    assert len(example.splitlines()) == 1


def test_b2d_without_arguments_lists_all_verbs_in_80_columns(prompt: Prompt) -> None:
    alone = prompt.b2d()
    assert (alone.code, alone.err) == (0, "")
    assert alone == prompt.b2d("--help") == prompt.b2d("-h") == prompt.b2d("help")
    lines = alone.out.splitlines()
    for verb in VERBS:
        assert [line for line in lines if line.startswith(f"  {verb} ")]
    assert all(alias in alone.out for alias in ALIASES)
    assert "..." not in alone.out.replace("[ARGS]...", "")  # click would cut the sentence here
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 61


@pytest.mark.parametrize("typed", ["--help", "up --help"])
def test_a_narrow_terminal_gets_narrow_help(prompt: Prompt, typed: str) -> None:
    result = prompt.b2d(*typed.split(), COLUMNS="40")
    assert max(map(len, result.out.splitlines())) <= 40
    assert result.out.split() == prompt.b2d(*typed.split()).out.split()


def test_help_with_a_verb_shows_the_help_of_the_verb(prompt: Prompt) -> None:
    assert prompt.b2d("help", "up") == prompt.b2d("up", "--help")


def test_iso_without_arguments_shows_its_help(prompt: Prompt) -> None:
    assert prompt.b2d("iso") == prompt.b2d("iso", "--help")


def test_boot2docker_runs_the_same_program(prompt: Prompt) -> None:
    assert prompt.run(["boot2docker", "status"]) == prompt.b2d("status")


@pytest.mark.parametrize(
    ("typed", "message", "tried"),
    [
        ("strat", "there is no command 'strat': did you mean 'start'?", "b2d --help"),
        ("xyzzy", "there is no command 'xyzzy'", "b2d --help"),
        ("iso biuld", "there is no command 'biuld': did you mean 'build'?", "b2d iso --help"),
        ("up --memory abc", "invalid value for '-m' / '--memory': 'abc' is not a valid integer", "b2d up --help"),
        ("up --memory 3", "--memory: memory cannot be 3", "from 256 to 1048576"),
        ("--vm ../x status", "--vm: '../x' is not a valid machine name", "use letters"),
        ("status --vm ../x", "--vm: '../x' is not a valid machine name", "use letters"),
        ("ip --vm ../x", "--vm: '../x' is not a valid machine name", "use letters"),
        (f"status --vm {'a' * 64}", f"--vm: '{'a' * 64}' is not a valid machine name", "use letters"),
        ("init --driver abacus", "--driver: driver cannot be 'abacus'", "one of auto, qemu, virtualbox"),
        ("config set memry=1", "there is no setting 'memry': did you mean 'memory'?", "one of vm, driver"),
        ("config set memory", "the value of memory is missing", "memory=VALUE"),
        ("config set memory lots", "memory cannot be 'lots'", "give an integer"),
        ("config set memory=1", "memory cannot be '1'", "from 256 to 1048576"),
        ("config unset memry", "there is no setting 'memry': did you mean 'memory'?", "one of vm, driver"),
        ("config memory=640", "there is no setting 'memory=640': did you mean 'memory'?", "one of vm, driver"),
        ("set memry=640", "there is no setting 'memry': did you mean 'memory'?", "one of vm, driver"),
        ("set memory", "the value of memory is missing", "memory=VALUE"),
        ("set memory=3", "memory cannot be '3'", "from 256 to 1048576"),
        ("set tls=no", "tls of an existing machine cannot be changed", "one of memory, cpus, disk"),
        ("config edti", "there is no command 'edti': did you mean 'edit'?", "b2d config --help"),
        ("config sett memory=1", "there is no command 'sett': did you mean 'set'?", "b2d config --help"),
        ("config memry", "there is no setting 'memry': did you mean 'memory'?", "one of vm, driver"),
        ("shellinit --shell abacus", "there is no shell 'abacus'", "one of sh, bash"),
        ("init --image /nowhere.iso", "the image '/nowhere.iso' does not exist", "use debian"),
        ("--vm x", "missing command", "b2d --help"),
        ("stop now", "got unexpected extra argument (now)", "b2d stop --help"),
    ],
)
def test_a_usage_error_is_reported_in_one_sentence_with_a_hint(
    prompt: Prompt, typed: str, message: str, tried: str
) -> None:
    result = prompt.b2d(*typed.split())
    assert (result.code, result.out) == (2, "")
    first, second = result.err.splitlines()
    assert first == f"b2d: {message}"
    assert second.startswith(f"     try: {tried}")


@pytest.mark.parametrize("typed", ["--foo", "up --foo", "stop --foo", "iso list --foo"])
def test_an_unknown_option_is_reported(prompt: Prompt, typed: str) -> None:
    result = prompt.b2d(*typed.split())
    assert (result.code, result.out) == (2, "")
    first, second = result.err.splitlines()
    assert first.startswith("b2d: no such option")
    assert "--foo" in first
    assert second == f"     try: b2d {typed.replace('--foo', '--help')}"


@pytest.mark.parametrize("verb", sorted({*VERBS, *ALIASES} - {*NOT_ABOUT_AN_EXISTING_ONE.split()}))
def test_a_missing_machine_is_reported_and_stdout_is_empty(prompt: Prompt, verb: str) -> None:
    result = prompt.b2d(verb, *ARGUMENTS.get(verb, []))
    message = NO_MACHINE.replace("\n    ", ";") if verb in ("shellinit", "env", "socket") else NO_MACHINE
    assert (result.code, result.out, result.err) == (3, "", message)


@pytest.mark.parametrize("typed", ["ssh", "ssh ls", "ssh -- exit 7"])
def test_ssh_to_a_missing_machine_exits_with_255(prompt: Prompt, typed: str) -> None:
    result = prompt.b2d(*typed.split())
    assert (result.code, result.out, result.err) == (255, "", NO_MACHINE)


def test_a_missing_machine_has_the_state_absent(prompt: Prompt) -> None:
    result = prompt.b2d("status")
    assert (result.code, result.out, result.err) == (3, "absent\n", "")


def test_deleting_a_missing_machine_succeeds(prompt: Prompt) -> None:
    result = prompt.b2d("delete")
    assert (result.code, result.out, result.err) == (0, "", "there is no machine boot2docker-vm\n")
    assert prompt.b2d("-q", "delete", "--yes").err == ""


@pytest.mark.parametrize("typed", ["--vm other ip", "ip --vm other", "--vm=other ip", "ip --vm=other"])
def test_the_machine_may_be_named_before_and_after_the_verb(prompt: Prompt, typed: str) -> None:
    result = prompt.b2d(*typed.split())
    assert (result.code, result.err.splitlines()[0]) == (3, "b2d: there is no machine other")


def test_the_machine_name_after_the_verb_wins(prompt: Prompt) -> None:
    assert "no machine two" in prompt.b2d("--vm", "one", "stop", "--vm", "two").err


@pytest.mark.parametrize("typed", ["init --memory 3", "--memory 3 init", "-m 3 up", "--memory=3 up", "boot -m3"])
def test_the_options_of_2014_are_accepted_before_the_verb_too(prompt: Prompt, typed: str) -> None:
    assert "--memory: memory cannot be 3" in prompt.b2d(*typed.split()).err
    old = typed.replace("--memory", "--disksize").replace("-m", "-s")
    assert "--disk: disk cannot be 3" in prompt.b2d(*old.split()).err


def test_reading_verbs_create_no_files(prompt: Prompt) -> None:
    for typed in ("status", "ip", "shellinit", "list", "config", "version", "iso list", "ssh", "info"):
        prompt.b2d(*typed.split())
    assert list(prompt.folder.iterdir()) == []


def test_the_home_is_private(prompt: Prompt) -> None:
    prompt.b2d("stop")
    assert prompt.home.root.stat().st_mode & 0o777 == 0o700
