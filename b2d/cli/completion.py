"""The verb completion, as a command: click finds what may stand there, completion.py what is particular to b2d."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, print_result
from b2d.cli.completion_values import FILES, SCRIPTS, SHELLS, completion_script
from b2d.errors import B2dError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@click.command(cls=Command, looks=True, example='eval "$(b2d completion bash)"')
@click.argument("shell", metavar="SHELL", type=click.Choice(SHELLS))
@click.argument("words", nargs=-1, metavar="", type=click.UNPROCESSED)
def completion(shell: str, words: tuple[str, ...]) -> None:
    """What bash, zsh or fish evaluates to complete at TAB."""
    if not words:
        print_result({"shell": shell, "script": SCRIPTS[shell]}, SCRIPTS[shell].rstrip("\n"))
        return
    typed, cut = completion_script(list(words)) if shell == "bash" else (list(words), "")
    option = typed[-1].partition("=")[0] + "=" if typed[-1].startswith("--") and "=" in typed[-1] else ""
    found = {one if one == FILES else (option + one).removeprefix(cut): meaning for one, meaning in _found(typed)}
    print_result(found, "\n".join(f"{one}\t{meaning}" if meaning else one for one, meaning in found.items()))


def _found(words: list[str]) -> list[tuple[str, str]]:
    """Each candidate and what it means; none where the words before it make no sense."""
    from click.shell_completion import ShellComplete

    root = click.get_current_context().find_root().command
    found: list[CompletionItem] = []
    with suppress(click.ClickException, B2dError):
        found = ShellComplete(root, {}, "b2d", "").get_completions(words[:-1], words[-1])
    return [(FILES if one.type in ("file", "dir") else one.value, one.help or "") for one in found]
