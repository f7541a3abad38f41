"""The style of help: imperative sentences for commands, phrases for options, and plain English in both."""

import re
from collections.abc import Iterator

import click
import pytest

from b2d.cli.main import VERBS, Verbs

PRIVATE = {"said", "told", "heard", "meant", "seen", "whom", "somebody", "anybody", "nobody", "unasked", "foresaw"}
VERB_FIRST = re.compile(
    r"(Add|Boot|Build|Change|Check|Copy|Create|Cut|Delete|Download|Go|Grow|Import|List|Open|Print|Remove|Restore|Return"
    r"|Run|Save|Set|Show|Shut|Start|Write),? "
)


def commands() -> Iterator[tuple[str, click.Command]]:
    group = Verbs(name="b2d", example="")
    context = click.Context(group)
    for verb in VERBS:
        command = group.get_command(context, verb)
        assert command is not None
        yield verb, command
        for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
            yield f"{verb} {name}", inner


COMMANDS = dict(commands())


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_describes_each_command_in_one_imperative_sentence(verb: str) -> None:
    first = (COMMANDS[verb].help or "").splitlines()[0]
    assert VERB_FIRST.match(first), first
    assert first.endswith("."), first
    assert first == COMMANDS[verb].get_short_help_str(200), "the list of commands would show another sentence"


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_is_plain_english(verb: str) -> None:
    texts = [COMMANDS[verb].help or ""]
    texts += [option.help or "" for option in COMMANDS[verb].params if isinstance(option, click.Option)]
    assert [text for text in texts if words(text) & PRIVATE] == []
    assert [text for text in texts if re.match(r"(What|Where|How|Who|It|That|Those) ", text)] == []


@pytest.mark.parametrize("verb", COMMANDS)
def test_an_option_has_one_line_that_ends_with_a_period_or_its_default(verb: str) -> None:
    options = [option for option in COMMANDS[verb].params if isinstance(option, click.Option) and not option.hidden]
    for option in options:
        text = option.help or ""
        assert re.fullmatch(r"[A-Z][^\n]*\.(  \[[^\]]+\])?", text), f"{option.name}: {text}"
