"""Reference pages that come from the program itself: the commands for sphinx-click, and a table of the settings."""

import io
import re
import sys
import tokenize
from pathlib import Path

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from b2d.cli import base, main
from b2d.config import loader, settings

HIDDEN = {parameter.name for parameter in base.common_options()}  # they stand once, at the top of the page
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def to_rst(text: str) -> str:
    """Return a docstring of b2d, in which `code` stands between single backticks, as reStructuredText."""
    pieces = CODE.split(text)
    plain = [re.sub(r"([*|])|(?<=\w)_(?!\w)", lambda found: "\\" + found[0], piece) for piece in pieces[::2]]
    code = [f"``{piece}``" for piece in pieces[1::2]]
    return "".join(part for pair in zip(plain, [*code, ""], strict=True) for part in pair)


def documented(command: click.Command) -> click.Command:
    """Return the command without the options that every command has, with its example as its epilog."""
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            children = {name: command.get_command(context, name) for name in command.list_commands(context)}
        commands = {name: documented(child) for name, child in children.items() if child is not None}
        return click.Group(command.name, help=command.help, commands=commands)
    parameters = [
        parameter
        for parameter in command.params
        if parameter.name not in HIDDEN and getattr(parameter, "metavar", None) != ""
    ]
    return click.Command(
        command.name, help=command.help, params=parameters, epilog=f"Example: `{getattr(command, 'example', '')}`"
    )


def _tree() -> click.Group:
    group = main.Verbs("b2d", example="")
    made = documented(group)
    assert isinstance(made, click.Group)
    made.help = "A Docker host with one command."
    made.params = [*base.common_options()]
    return made


commands = _tree()


def comments() -> dict[str, str]:
    """Return what the declaration of each setting says behind it."""
    source = Path(settings.__file__).read_text(encoding="utf-8")
    said: dict[str, str] = {}
    field = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.start[1] == 4:
            field = token.string
        elif token.type == tokenize.COMMENT and field:
            said[field] = token.string.lstrip("# ")
    return said


def allowed(key: str, default: object) -> str:
    """Return what a setting may be."""
    if key in loader.CHOICES:
        return ", ".join(loader.CHOICES[key])
    if key in loader.RANGES:
        return "{} to {}".format(*loader.RANGES[key])
    return {bool: "yes, no", int: "a number", str: "a text", tuple: "a list"}[type(default)]


class SettingsTable(Directive):
    """The table of all settings."""

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        said = comments()
        rows = [("setting", "default", "may be", "variable", "option", "notes")]
        for key, default in settings.Settings()._asdict().items():
            shown = {True: "yes", False: "no"}.get(default) if isinstance(default, bool) else None
            shown = shown or (", ".join(default) if isinstance(default, tuple) else str(default))
            flag = key.replace("_", "-")
            option = f"--{flag}, --no-{flag}" if isinstance(default, bool) else f"--{flag}"
            variable = loader.PREFIX + key.upper()
            rows.append((key, shown, allowed(key, default), variable, option, said.get(key, "")))
        return [_table(rows)]


class CommandList(Directive):
    """The commands with the first sentence of each."""

    def run(self) -> list[nodes.Node]:
        """Build the list."""
        made = nodes.definition_list()
        for name, command in commands.commands.items():
            sentence = command.get_short_help_str(sys.maxsize).replace("`", "")
            made += nodes.definition_list_item(
                "",
                nodes.term("", "", nodes.literal(text=name)),
                nodes.definition("", nodes.paragraph(text=sentence)),
            )
        return [made]


def _table(rows: list[tuple[str, ...]]) -> nodes.table:
    group = nodes.tgroup(cols=len(rows[0]))
    group += [nodes.colspec(colwidth=1) for _ in rows[0]]
    head, body = nodes.thead(), nodes.tbody()
    for number, cells in enumerate(rows):
        row = nodes.row()
        for column, cell in enumerate(cells):
            entry, paragraph = nodes.entry(), nodes.paragraph()
            code = number and cell and column in (0, 1, 3, 4)
            paragraph += nodes.literal(text=cell) if code else nodes.Text(cell)
            entry += paragraph
            row += entry
        (body if number else head).append(row)
    group += [head, body]
    table = nodes.table()
    table += group
    return table


def _docstring(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    lines[:] = to_rst("\n".join(lines)).split("\n")


def _command_text(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    lines[:] = to_rst("\n".join(lines)).split("\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives, and what makes b2d's docstrings reStructuredText."""
    app.add_directive("b2d-settings", SettingsTable)
    app.add_directive("b2d-commands", CommandList)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("sphinx-click-process-description", _command_text)
    app.connect("sphinx-click-process-epilog", _command_text)
    return {"parallel_read_safe": True}
