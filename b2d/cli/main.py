"""The command line: which verbs there are, how an error is said, and the exit code."""

import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from b2d.cli.base import (
    Commands,
    _complete_settings,
    command_line_settings,
    common_options,
    hidden_options,
    new_machine_options,
    print_json,
)
from b2d.config.boot2docker_profile import SWITCHES
from b2d.errors import B2dError, ConfigError
from b2d.host.signals import install_handlers
from b2d.reporting.stderr import print_error, print_long_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# as the help groups them; verb: module and function; loaded when it is used
SECTIONS = {
    "Every day": {
        "up": "machine:up",
        "stop": "machine:stop",
        "save": "machine:save",
        "status": "machine:status",
        "ssh": "machine:ssh",
        "run": "integrations:run",
        "cp": "cp:cp",
        "shellinit": "machine:shellinit",
        "ip": "machine:ip",
        "ports": "ports:ports",
    },
    "Now and then": {
        "init": "machine:init",
        "restart": "machine:restart",
        "reset": "machine:reset",
        "poweroff": "machine:poweroff",
        "delete": "machine:delete",
        "set": "config:set_machine",
        "disk": "disk:disk",
        "snapshot": "snapshot:snapshot",
        "upgrade": "upgrade:upgrade",
        "rollback": "upgrade:rollback",
        "info": "machine:info",
        "logs": "diagnostics:logs",
        "screenshot": "machine:screenshot",
        "context": "integrations:context",
        "ssh-config": "integrations:ssh_config",
        "autostart": "autostart:autostart",
    },
    "This host": {
        "list": "images:list_machines",
        "import": "import_machine:import_machine",
        "download": "images:download",
        "iso": "images:iso",
        "config": "config:config",
        "doctor": "diagnostics:doctor",
        "support": "diagnostics:support",
        "completion": "completion:completion",
        "version": "images:version",
    },
}
VERBS = {verb: where for section in SECTIONS.values() for verb, where in section.items()}
ALIASES = {
    "start": "up",
    "boot": "up",
    "resume": "up",
    "down": "stop",
    "halt": "stop",
    "suspend": "save",
    "env": "shellinit",
    "socket": "shellinit",
    "destroy": "delete",
    "rm": "delete",
    "inspect": "info",
    "ls": "list",
    "cfg": "config",
}


class Verbs(Commands):
    """The verbs, each loaded from its module when it is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        ours = len(_own_arguments(args))
        args = [*map(_without_dashes, args[:ours]), *args[ours:]]
        self.params += hidden_options(args[:ours], self.params)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(VERBS)

    def spellings(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*VERBS, *ALIASES]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """The verbs, with their other names where something is typed already."""
        from click.shell_completion import CompletionItem

        others = [
            CompletionItem(alias, help=f"the same as {verb}")
            for alias, verb in ALIASES.items()
            if incomplete and alias.startswith(incomplete)
        ]
        return super().shell_complete(ctx, incomplete) + others or _complete_settings(incomplete)

    def sections(self, ctx: click.Context) -> dict[str, list[str]]:  # noqa: ARG002
        return {title: list(verbs) for title, verbs in SECTIONS.items()}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        where = VERBS.get(ALIASES.get(cmd_name, cmd_name))
        if where is None:
            return None
        import importlib

        module, _, function = where.partition(":")
        found = getattr(importlib.import_module(f"b2d.cli.{module}"), function)
        assert isinstance(found, click.Command)
        return found

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        others: dict[str, list[str]] = {}
        for alias, verb in ALIASES.items():
            others.setdefault(verb, []).append(alias)
        with formatter.section("Other names"):
            formatter.write_text("; ".join(f"{verb}: {', '.join(aliases)}" for verb, aliases in others.items()))
        super().format_epilog(ctx, formatter)


def _own_arguments(arguments: list[str]) -> list[str]:
    """What is said to b2d: what follows the verbs ssh and run, but for options, is another's."""
    ours, hands_over = 0, False
    for word in arguments:
        if hands_over and (word == "--" or not word.startswith("-")):
            break
        hands_over = hands_over or (word in ("ssh", "run") and arguments[ours - 1 : ours] != ["--vm"])
        ours += 1
    return arguments[:ours]


def _without_dashes(word: str) -> str:
    """In 2014 a switch could be given a value, as --dhcp=false; what those switched is no more."""
    name = word.partition("=")[0]
    return name if name in SWITCHES else word


def _group() -> Verbs:
    from b2d import __version__

    text = "A Docker host with one command: a tiny Linux, with its data on a disk."
    example = 'b2d up && eval "$(b2d shellinit)" && docker ps'
    group = Verbs(name="b2d", help=text, example=example, context_settings={"help_option_names": ["-h", "--help"]})
    version = click.version_option(__version__, message="b2d version: v%(version)s")(lambda: None)
    group.params += [*common_options(), *new_machine_options(hidden=True), *version.__click_params__]  # type: ignore[attr-defined]
    return group


def main() -> int:
    """Run this process's command line; its exit code. Raises KeyboardInterrupt."""
    install_handlers()
    os.umask(0o077)  # what is made here, by hypervisors too, is for its owner; what is made for others says so
    threading.excepthook = sys.unraisablehook = _stdout_is_gone
    # paths are bytes, and come out as they came in; on a stdout of ASCII too, as the door's answers do
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    try:
        return _run(sys.argv[1:])
    except click.Abort:  # at a question
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        _close_stdout()
        return 1


def _stdout_is_gone(failure: Any) -> None:
    """What fails in a thread or in leaving is told by whoever waits for it, if anybody does."""
    from b2d.cli.unexpected_errors import report_unexpected

    if isinstance(failure.exc_value, Exception):
        report_unexpected(failure.exc_value, sys.argv[1:])


def _run(arguments: list[str]) -> int:
    context: click.Context | None = None
    try:
        context = _group().make_context("b2d", list(arguments))
        with context:
            result = context.command.invoke(context)
            return result if isinstance(result, int) else 0  # a verb returns its exit code where it has one of its own
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        raise
    except click.ClickException as error:
        return _usage_message(_usage(error), {"as_json": "--json" in _own_arguments(arguments)})
    except B2dError as error:
        return _usage_message(error, command_line_settings(context) if context else {})
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  the one place where what nobody foresaw ends
        from b2d.cli.unexpected_errors import report_unexpected

        return _usage_message(report_unexpected(error, arguments), command_line_settings(context) if context else {})


def _usage(error: click.ClickException) -> ConfigError:
    """What click says, in the form of all errors."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    said = error.format_message().rstrip(".")
    return ConfigError(said[:1].lower() + said[1:], hint=f"{context.command_path if context else 'b2d'} --help")


def _usage_message(error: B2dError, options: dict[str, Any]) -> int:
    print_error(f"b2d: {error.message}")
    if error.hint:
        print_error(f"     try: {error.hint}")
    if error.details and options.get("verbose"):
        print_long_error(error.details.rstrip())
    elif error.details:
        print_error("     more: -v")
    if options.get("as_json"):
        with suppress(B2dError):  # that it cannot be written is perhaps what was just said
            print_json({"error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}})
    return error.exit_code


def _close_stdout() -> None:
    """Nobody reads it: without this Python complains about that when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
