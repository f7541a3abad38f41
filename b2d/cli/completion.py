"""The command completion: click finds the candidates, completion_values.py those that are particular to b2d."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, print_result
from b2d.cli.completion_values import FILES, SCRIPTS, SHELLS, join_words
from b2d.errors import B2dError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@click.command(cls=Command, read_only=True, example='eval "$(b2d completion bash)"')
@click.argument("shell", metavar="SHELL", type=click.Choice(SHELLS))
@click.argument("words", nargs=-1, metavar="", type=click.UNPROCESSED)
def completion(shell: str, words: tuple[str, ...]) -> None:
    """Print the completion script for bash, zsh or fish."""
    if not words:
        print_result({"shell": shell, "script": SCRIPTS[shell]}, SCRIPTS[shell].rstrip("\n"))
        return
    typed, prefix = join_words(list(words)) if shell == "bash" else (list(words), "")
    option = typed[-1].partition("=")[0] + "=" if typed[-1].startswith("--") and "=" in typed[-1] else ""
    candidates = {
        word if word == FILES else (option + word).removeprefix(prefix): meaning
        for word, meaning in _list_candidates(typed)
    }
    print_result(
        candidates, "\n".join(f"{word}\t{meaning}" if meaning else word for word, meaning in candidates.items())
    )


def _list_candidates(words: list[str]) -> list[tuple[str, str]]:
    """Return each candidate and its meaning; none when the words before it are not valid."""
    from click.shell_completion import ShellComplete

    root = click.get_current_context().find_root().command
    items: list[CompletionItem] = []
    with suppress(click.ClickException, B2dError):
        items = ShellComplete(root, {}, "b2d", "").get_completions(words[:-1], words[-1])
    return [(FILES if item.type in ("file", "dir") else item.value, item.help or "") for item in items]
