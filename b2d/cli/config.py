"""Commands for settings: those of this home, and those that a machine was created with."""

import os
import sys
from typing import TYPE_CHECKING

import click

from b2d.cli.base import (
    Command,
    Commands,
    complete_values,
    create_app,
    get_environment,
    print_line,
    print_result,
    suggestion,
)
from b2d.config import loader
from b2d.config.settings import Settings
from b2d.config.toml_edit import format_literal
from b2d.errors import B2dError, ConfigError
from b2d.machine_names import command_for
from b2d.network import endpoints
from b2d.reporting.stderr import print_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from b2d.paths import Home


SECRET = "password"  # the setting whose value does not belong on a command line
TAKES_EFFECT = {  # the words of the JSON document, and their meaning for people
    "start": "from its next start on",
    "boot": "from the first boot after its saved state on",
    "restart": "from the next {restart} on",
}


class Config(Commands):
    """The group config, which runs `get` when it is used alone or with a setting's name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; insert `get` where they name no command."""
        if not args and ctx.resilient_parsing:  # shell completion
            return super().parse_args(ctx, args)
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            self._check(ctx, args[:1])
            args = ["get", *args]
        return super().parse_args(ctx, args)

    def _check(self, ctx: click.Context, words: list[str]) -> None:
        """Raise UsageError for a word that is close to a command and to no setting."""
        for word in words:
            if word.replace("-", "_") in Settings._fields or suggestion(word, list(Settings._fields)):
                return
            if question := suggestion(word, list(self.commands)):
                raise click.UsageError(f"there is no command {word!r}{question}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """Return the commands, and the settings, which may stand in their place."""
        items = super().shell_complete(ctx, incomplete)
        return items + ([] if incomplete.startswith("-") else get.params[0].shell_complete(ctx, incomplete))


@click.group(cls=Config, example="b2d config set memory=4096")
def config() -> None:
    """Show and change the settings of this home."""


@config.command(cls=Command, read_only=True, example="b2d config get memory")
@click.argument("key", required=False, shell_complete=complete_values)
def get(key: str | None) -> None:
    """Print the settings and their origins, or the value of KEY."""
    if key is not None:
        key = _parse_key(key)
    effective = create_app().effective
    names = [key] if key is not None else list(Settings._fields)
    values = {name: getattr(effective.settings, name) for name in names}
    values |= {name: endpoints.without_password(values[name]) for name in endpoints.PROXIES if name in values}
    values |= {"password": endpoints.REDACTED} if values.get("password") else {}
    document = {name: {"value": value, "origin": effective.origins[name]} for name, value in values.items()}
    if key is not None:
        print_result(document, values[key] if isinstance(values[key], str) else format_literal(values[key]))
        return
    lines = [f"{name} = {format_literal(value)}" for name, value in values.items()]
    width = max(map(len, lines))
    pairs = zip(lines, names, strict=True)
    print_result(document, "\n".join(f"{line:{width}}  # {effective.origins[name]}" for line, name in pairs))


@config.command("set", cls=Command, example="b2d config set memory=4096 cpus=2")
@click.argument("assignments", nargs=-1, required=True, metavar="KEY=VALUE...", shell_complete=complete_values)
def set_values(assignments: tuple[str, ...]) -> None:
    """Set values in config.toml.

    Given without a value, `password` is read from the terminal without echo, or from stdin.
    """
    from b2d.config import editor

    values = _parse_assignments(assignments)
    home = loader.resolve_home(get_environment())
    editor.set_values(home, get_environment(), values)
    print_line(f"{', '.join(values)}: set in {home.config}")
    for key in values:
        if os.environ.get(variable := loader.PREFIX + key.upper()):
            print_error(f"warning: {variable} is set and overrides {home.config}")
    print_result({"path": home.config, "keys": list(values)})


@config.command(cls=Command, example="b2d config unset memory")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...", shell_complete=complete_values)
def unset(keys: tuple[str, ...]) -> None:
    """Remove settings from config.toml."""
    from b2d.config import editor

    keys = tuple(map(_parse_key, keys))
    home = loader.resolve_home(get_environment())
    editor.unset_values(home, get_environment(), keys)
    print_line(f"{', '.join(keys)}: not set in {home.config}")
    print_result({"path": home.config, "keys": keys})


@config.command(cls=Command, read_only=True, example='cat "$(b2d config path)"')
def path() -> None:
    """Print the path of config.toml, which need not exist."""
    file = str(loader.resolve_home(get_environment()).config)
    print_result({"path": file}, file)


@config.command(cls=Command, example="EDITOR=nano b2d config edit")
def edit() -> None:
    """Open config.toml in $VISUAL or $EDITOR; save it if it is valid."""
    from b2d.config import editor

    home = loader.resolve_home(get_environment())
    if home.config_draft.exists():
        print_line(f"continuing with the draft that was not valid last time: {home.config_draft}")
    try:
        changed = editor.edit(home, get_environment(), lambda: _run_editor(home))
    except ConfigError as error:
        hint = f"{error.hint}; then: b2d config edit" if error.hint else "b2d config edit"
        raise error.replace(hint=hint) from error
    print_line(f"{home.config} is changed" if changed else f"{home.config} is unchanged")
    print_result({"path": home.config, "changed": changed})


def _run_editor(home: "Home") -> None:
    """Run the user's editor on the draft. Raises B2dError."""
    import shlex

    from b2d.host import processes
    from b2d.host.signals import ignored_in_child

    default = "notepad" if os.name == "nt" else "vi"
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or default
    try:
        with ignored_in_child():
            code = processes.run_in_foreground([*shlex.split(command, posix=os.name != "nt"), str(home.config_draft)])
    except (processes.ProgramNotFoundError, ValueError) as error:
        raise B2dError(f"the editor {command!r} cannot be started", hint="EDITOR=nano b2d config edit") from error
    if code != 0:
        raise B2dError(f"{command} exited with code {code}: {home.config} is unchanged")


def _parse_key(word: str) -> str:
    """Return the setting of a name, which may be spelled as its option. Raises ConfigError."""
    key = word.replace("-", "_")
    loader.check_key(key)
    return key


def _parse_assignments(assignments: tuple[str, ...]) -> dict[str, str]:
    """Parse KEY=VALUE..., or KEY VALUE; a password without a value is read from the user. Raises ConfigError."""
    if len(assignments) == 2 and "=" not in assignments[0]:
        assignments = (f"{assignments[0]}={assignments[1]}",)
    values = {}
    for assignment in assignments:
        word, equals, value = assignment.partition("=")
        key = _parse_key(word)
        if not equals and key == SECRET:
            equals = value = _read_secret(key)
        if not equals:
            raise ConfigError(f"the value of {key} is missing", hint=f"{key}=VALUE")
        values[key] = value
    return values


def _read_secret(key: str) -> str:
    """Read a secret from the terminal without echo, or a line from stdin.

    A command line is no place for it: every user of this host can read that of any process.
    """
    if sys.stdin.isatty():
        return str(click.prompt(key, hide_input=True, err=True))
    return sys.stdin.readline(loader.MAX_VALUE_LENGTH).rstrip("\r\n")


@click.command("set", cls=Command, example="b2d set memory=4096 cpus=4 disk=40000")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...", shell_complete=complete_values)
def set_machine(changes: tuple[str, ...]) -> None:
    """Change settings of an existing machine; its data is kept.

    KEY is memory, cpus, disk, ssh_port, docker_port or share. A disk grows only while the machine is off.
    """
    from dataclasses import asdict

    from b2d.guest import share_policy
    from b2d.machine.reconfigure import apply_changes, requested_changes

    requested = requested_changes(_parse_assignments(changes))
    app = create_app()
    name = app.settings.vm
    outcome = apply_changes(app.machine(), requested)
    counts = {change.key: _effective_from(change.key, outcome.state) for change in outcome.changes}
    for change in outcome.changes:
        print_line(
            f"{change.key} of {name}: {format_literal(change.after)}, was {format_literal(change.before)}, "
            f"{TAKES_EFFECT[counts[change.key]].format(restart=command_for('restart', name))}"
        )
    if not outcome.changes:
        print_line(f"{name} has these values already")
    if warning := share_policy.warning(requested.get("share", ())):
        app.reporter.warn(warning)
    print_result({change.key: asdict(change) | {"counts": counts[change.key]} for change in outcome.changes})


def _effective_from(key: str, state: str) -> str:
    """Return the word of TAKES_EFFECT that says from when on a change counts."""
    if state == "saved" and key in ("memory", "cpus", "share"):
        return "boot"
    return "start" if state in ("stopped", "crashed", "absent", "saved") else "restart"
