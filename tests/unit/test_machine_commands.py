"""A command that is shown for a machine names it, unless it is the default machine."""

import shlex

import pytest

from b2d.machine_names import DEFAULT_NAME, command_for, commands_for

LONG = "ssh -- sudo kill 12"


@pytest.mark.parametrize("verb", ["up", "disk compact", "set memory=4096 cpus=2", LONG])
def test_the_default_machine_needs_no_name(verb: str) -> None:
    assert command_for(verb, DEFAULT_NAME) == f"b2d {verb}"


@pytest.mark.parametrize(
    ("verb", "command"),
    [
        ("up", "b2d up --vm dev"),
        ("set memory=4096 cpus=2", "b2d set memory=4096 cpus=2 --vm dev"),
        (LONG, "b2d ssh --vm dev -- sudo kill 12"),
    ],
)
def test_another_machine_is_named_before_the_arguments_of_the_guest(verb: str, command: str) -> None:
    assert command_for(verb, "dev") == command


def test_commands_follow_each_other_and_each_names_the_machine() -> None:
    assert commands_for(("stop", "disk compact"), DEFAULT_NAME) == "b2d stop && b2d disk compact"
    assert commands_for(("stop", "disk compact"), "dev") == "b2d stop --vm dev && b2d disk compact --vm dev"


@pytest.mark.parametrize("name", ["my machine", "it's mine", 'a "b"', "$(id)", "-v", "a;b", ""])
def test_an_invalid_machine_name_is_quoted_as_one_word(name: str) -> None:
    """Folders have such names, and machines of other tools."""
    assert shlex.split(command_for("delete", name)) == ["b2d", "delete", "--vm", name]
