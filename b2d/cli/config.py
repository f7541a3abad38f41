"""Settings as commands: those of this home, and those that a machine was made with."""

import os
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, Commands, app, complete_values, environment, print_line, print_result, suggestion
from b2d.config import loader as settings
from b2d.config.settings import Settings
from b2d.config.toml_edit import literal
from b2d.errors import B2dError, ConfigError
from b2d.network import endpoints
from b2d.reporting.stderr import print_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from b2d.paths import Home


SECRET = "password"  # the setting that is none of a command line's
TAKES_EFFECT = {  # the words in JSON, and as people read it
    "start": "from its next start on",
    "boot": "from the boot on that comes after its saved state",
    "restart": "from b2d restart on",
}


class Config(Commands):
    """Alone, or with a setting's name, it answers as `get` does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and ctx.resilient_parsing:  # somebody presses TAB
            return super().parse_args(ctx, args)
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            self._check(ctx, args[:1])
            args = ["get", *args]
        return super().parse_args(ctx, args)

    def _check(self, ctx: click.Context, words: list[str]) -> None:
        """Refuse what is neither a command nor a setting, but nearly a command."""
        for word in words:
            if word.replace("-", "_") in Settings.__slots__ or suggestion(word, list(Settings.__slots__)):
                return
            if meant := suggestion(word, list(self.commands)):
                raise click.UsageError(f"there is no command {word!r}{meant}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """The commands, and the settings, since it answers with them too."""
        found = super().shell_complete(ctx, incomplete)
        return found + ([] if incomplete.startswith("-") else get.params[0].shell_complete(ctx, incomplete))


@click.group(cls=Config, example="b2d config set memory=4096")
def config() -> None:
    """The settings, and where each comes from."""


@config.command(cls=Command, looks=True, example="b2d config get memory")
@click.argument("key", required=False, shell_complete=complete_values)
def get(key: str | None) -> None:
    """The settings in force and where each comes from, or the value of KEY."""
    if key is not None:
        key = _check_keys(key)
    effective = app().effective
    wanted = [key] if key is not None else [field.name for field in fields(Settings)]
    found = {name: getattr(effective.settings, name) for name in wanted}
    found |= {name: endpoints.without_password(found[name]) for name in endpoints.PROXIES if name in found}
    found |= {"password": endpoints.REDACTED} if found.get("password") else {}
    document = {name: {"value": value, "origin": effective.origins[name]} for name, value in found.items()}
    if key is not None:
        print_result(document, found[key] if isinstance(found[key], str) else literal(found[key]))
        return
    lines = [f"{name} = {literal(value)}" for name, value in found.items()]
    width = max(map(len, lines))
    sides = zip(lines, wanted, strict=True)
    print_result(document, "\n".join(f"{line:{width}}  # {effective.origins[name]}" for line, name in sides))


@config.command("set", cls=Command, example="b2d config set memory=4096 cpus=2")
@click.argument("wishes", nargs=-1, required=True, metavar="KEY=VALUE...", shell_complete=complete_values)
def set_values(wishes: tuple[str, ...]) -> None:
    """Say in config.toml what settings are to be.

    Of `password` alone the value is asked for, or read from stdin, and so seen by nobody.
    """
    from b2d.config import editor as rewrite

    wanted = _parse_pair(wishes)
    home = settings.home(environment())
    rewrite.set_values(home, environment(), wanted)
    print_line(f"{', '.join(wanted)}: said in {home.config}")
    for key in wanted:
        if os.environ.get(variable := settings.PREFIX + key.upper()):
            print_error(f"warning: {variable} is set, and wins over it")
    print_result({"path": home.config, "keys": list(wanted)})


@config.command(cls=Command, example="b2d config unset memory")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...", shell_complete=complete_values)
def unset(keys: tuple[str, ...]) -> None:
    """Say nothing of a setting in config.toml any more."""
    from b2d.config import editor as rewrite

    keys = tuple(map(_check_keys, keys))
    home = settings.home(environment())
    rewrite.unset_values(home, environment(), keys)
    print_line(f"{', '.join(keys)}: not said in {home.config}")
    print_result({"path": home.config, "keys": keys})


@config.command(cls=Command, looks=True, example='cat "$(b2d config path)"')
def path() -> None:
    """Where config.toml lies, or would."""
    file = str(settings.home(environment()).config)
    print_result({"path": file}, file)


@config.command(cls=Command, example="EDITOR=nano b2d config edit")
def edit() -> None:
    """Open config.toml in $VISUAL or $EDITOR; it takes effect if it can be read."""
    from b2d.config import editor as rewrite

    home = settings.home(environment())
    if home.config_draft.exists():
        print_line(f"this goes on with what could not be taken last time: {home.config_draft}")
    try:
        changed = rewrite.edit(home, environment(), lambda: _open(home))
    except ConfigError as error:
        error.hint = f"{error.hint}; then: b2d config edit" if error.hint else "b2d config edit"
        raise
    print_line(f"{home.config} is changed" if changed else f"{home.config} stays as it was")
    print_result({"path": home.config, "changed": changed})


def _open(home: "Home") -> None:
    """Let a person edit the draft."""
    import shlex

    from b2d.host import processes
    from b2d.host.signals import ignored_in_child

    usual = "notepad" if os.name == "nt" else "vi"
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or usual
    try:
        with ignored_in_child():
            code = processes.replace_process([*shlex.split(editor, posix=os.name != "nt"), str(home.config_draft)])
    except (processes.ProgramNotFoundError, ValueError) as error:
        raise B2dError(f"the editor {editor!r} cannot be started", hint="EDITOR=nano b2d config edit") from error
    if code != 0:
        raise B2dError(f"{editor} ended with {code}: {home.config} stays as it was")


def _check_keys(word: str) -> str:
    """The setting of that name, which may be written as its option is. Raises ConfigError."""
    key = word.replace("-", "_")
    settings.check_key(key)
    return key


def _parse_pair(wishes: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE..., or KEY VALUE; a password alone is asked for. Raises ConfigError."""
    if len(wishes) == 2 and "=" not in wishes[0]:
        wishes = (f"{wishes[0]}={wishes[1]}",)
    found = {}
    for wish in wishes:
        word, equals, value = wish.partition("=")
        key = _check_keys(word)
        if not equals and key == SECRET:
            equals = value = _requested_changes(key)
        if not equals:
            raise ConfigError(f"what {key} is to be is missing", hint=f"{key}=VALUE")
        found[key] = value
    return found


def _requested_changes(key: str) -> str:
    """What a person types unseen, or the first line of stdin: every user of this host can read a program's words."""
    if sys.stdin.isatty():
        return str(click.prompt(key, hide_input=True, err=True))
    return sys.stdin.readline(settings.MAX_VALUE_LENGTH).rstrip("\r\n")


@click.command("set", cls=Command, example="b2d set memory=4096 cpus=4 disk=40000")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...", shell_complete=complete_values)
def set_machine(changes: tuple[str, ...]) -> None:
    """Change a machine that is there; its data stays.

    KEY is memory, cpus, disk, ssh_port, docker_port or share. A disk grows only while the machine is off.
    """
    from dataclasses import asdict

    from b2d.guest import share_policy
    from b2d.machine.reconfigure import apply_changes, requested_changes

    asked = requested_changes(_parse_pair(changes))
    it = app()
    name = it.settings.vm
    done = apply_changes(it.store, it.driver, name, asked)
    counts = {one.key: _effect(one.key, done.state) for one in done.made}
    for one in done.made:
        print_line(
            f"{one.key} of {name}: {literal(one.after)} in place of {literal(one.before)}, "
            f"{TAKES_EFFECT[counts[one.key]]}"
        )
    if not done.made:
        print_line(f"{name} is so already")
    if sentence := share_policy.warning(asked.get("share", ())):
        it.reporter.warn(sentence)
    print_result({one.key: asdict(one) | {"counts": counts[one.key]} for one in done.made})


def _effect(key: str, state: str) -> str:
    """From when on a change counts, a word of COUNTS."""
    if state == "saved" and key in ("memory", "cpus", "share"):
        return "boot"
    return "start" if state in ("stopped", "crashed", "absent", "saved") else "restart"
