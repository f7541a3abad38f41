"""Every b2d command in README and docs/ is valid: its verbs, options and number of arguments."""

import re

import click
import pytest

from b2d.cli import main
from tests.support.shown_commands import ShownCommand, commands, pages

SHOWN = [shown for page in pages() for shown in commands(page)]
PLACEHOLDER = re.compile(r"\[.*\]|\.\.\.")


def parse(words: list[str]) -> None:
    """Parse a command line as b2d does, without running it. Raises click.UsageError."""
    command: click.Command = main._create_group()
    name, context = "b2d", None
    while True:
        context = command.make_context(name, list(words), parent=context)
        words = [*context._protected_args, *context.args] if isinstance(command, click.Group) else []
        if not words:
            return
        assert isinstance(command, click.Group)
        resolved, inner, words = command.resolve_command(context, words)
        assert inner is not None
        name, command = resolved or name, inner


def test_the_documentation_shows_many_commands() -> None:
    assert len(SHOWN) > 80
    assert {shown.words[1] for shown in SHOWN if len(shown.words) > 1} > {"up", "ssh", "cp", "snapshot", "config"}


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_every_shown_command_is_valid(shown: ShownCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("B2D_HOME", raising=False)
    words = [word for word in shown.words[1:] if not PLACEHOLDER.fullmatch(word)]
    words = [word.rstrip(",") for word in words]
    if "," in "".join(shown.words):  # two commands on one line: `b2d ip, b2d status`
        words = words[: next((at for at, word in enumerate(words) if word == "b2d"), None)]
    parse(words)
