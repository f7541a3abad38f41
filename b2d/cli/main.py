"""The command line: its verbs, its error messages and its exit code."""

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

# by section of the help; verb: module and function, which are imported when the verb is used
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
VERBS = {verb: target for section in SECTIONS.values() for verb, target in section.items()}
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
    """The group of all verbs, each imported from its module on first use."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments: `help VERB`, and the switches with values of 2014, included."""
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        end = len(_own_arguments(args))
        args = [*map(_strip_switch_value, args[:end]), *args[end:]]
        self.params += hidden_options(args[:end], self.params)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return all verbs."""
        return list(VERBS)

    def list_spellings(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return all verbs and aliases."""
        return [*VERBS, *ALIASES]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """Return the verbs, and the aliases that match once something is typed."""
        from click.shell_completion import CompletionItem

        aliases = [
            CompletionItem(alias, help=f"the same as {verb}")
            for alias, verb in ALIASES.items()
            if incomplete and alias.startswith(incomplete)
        ]
        return super().shell_complete(ctx, incomplete) + aliases or _complete_settings(incomplete)

    def list_sections(self, ctx: click.Context) -> dict[str, list[str]]:  # noqa: ARG002
        """Return the verbs by section title."""
        return {title: list(verbs) for title, verbs in SECTIONS.items()}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command of a verb or alias; None for an unknown name."""
        target = VERBS.get(ALIASES.get(cmd_name, cmd_name))
        if target is None:
            return None
        import importlib

        module, _, function = target.partition(":")
        command = getattr(importlib.import_module(f"b2d.cli.{module}"), function)
        assert isinstance(command, click.Command)
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the aliases and the example."""
        aliases_by_verb: dict[str, list[str]] = {}
        for alias, verb in ALIASES.items():
            aliases_by_verb.setdefault(verb, []).append(alias)
        with formatter.section("Aliases"):
            formatter.write_text("; ".join(f"{verb}: {', '.join(names)}" for verb, names in aliases_by_verb.items()))
        super().format_epilog(ctx, formatter)


def _own_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments that are for b2d: after the verbs ssh and run, only the options that follow at once."""
    end, takes_command = 0, False
    for word in arguments:
        if takes_command and (word == "--" or not word.startswith("-")):
            break
        takes_command = takes_command or (word in ("ssh", "run") and arguments[end - 1 : end] != ["--vm"])
        end += 1
    return arguments[:end]


def _strip_switch_value(word: str) -> str:
    """Strip the value from a switch of 2014, such as --dhcp=false: what those switches controlled no longer exists."""
    name = word.partition("=")[0]
    return name if name in SWITCHES else word


def _create_group() -> Verbs:
    from b2d import __version__

    text = "Run a Docker host in a tiny Linux machine whose data stays on a disk."
    example = 'b2d up && eval "$(b2d shellinit)" && docker ps'
    group = Verbs(name="b2d", help=text, example=example, context_settings={"help_option_names": ["-h", "--help"]})
    version = click.version_option(__version__, message="b2d version: v%(version)s")(lambda: None)
    group.params += [*common_options(), *new_machine_options(hidden=True), *version.__click_params__]  # type: ignore[attr-defined]
    return group


def main() -> int:
    """Run this process's command line and return its exit code. Raises KeyboardInterrupt."""
    install_handlers()
    os.umask(0o077)  # new files, those of hypervisors too, are for their owner unless the code says otherwise
    threading.excepthook = sys.unraisablehook = _log_background_error
    # paths are bytes and must come out unchanged, on an ASCII stdout too, as on the fast path of __main__
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    try:
        return _run(sys.argv[1:])
    except click.Abort:  # Ctrl-C at a prompt
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        _discard_stdout()
        return 1


def _log_background_error(failure: Any) -> None:
    """Log an error in a thread or at exit; whoever waits for the thread reports it."""
    from b2d.cli.unexpected_errors import report_unexpected

    if isinstance(failure.exc_value, Exception):
        report_unexpected(failure.exc_value, sys.argv[1:])


def _run(arguments: list[str]) -> int:
    context: click.Context | None = None
    try:
        context = _create_group().make_context("b2d", list(arguments))
        with context:
            result = context.command.invoke(context)
            return result if isinstance(result, int) else 0  # a verb returns an int where it has its own exit code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        raise
    except click.ClickException as error:
        return _print_failure(_usage_error(error), {"as_json": "--json" in _own_arguments(arguments)})
    except B2dError as error:
        return _print_failure(error, command_line_settings(context) if context else {})
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  the only place that handles unexpected errors
        from b2d.cli.unexpected_errors import report_unexpected

        return _print_failure(report_unexpected(error, arguments), command_line_settings(context) if context else {})


def _usage_error(error: click.ClickException) -> ConfigError:
    """Convert an error of click's to one of b2d's."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = error.format_message().rstrip(".")
    return ConfigError(message[:1].lower() + message[1:], hint=f"{context.command_path if context else 'b2d'} --help")


def _print_failure(error: B2dError, options: dict[str, Any]) -> int:
    """Print an error on stderr, and as JSON on stdout when that is requested; return its exit code."""
    print_error(f"b2d: {error.message}")
    if error.hint:
        print_error(f"     try: {error.hint}")
    if error.details and options.get("verbose"):
        print_long_error(error.details.rstrip())
    elif error.details:
        print_error("     more: -v")
    if options.get("as_json"):
        with suppress(B2dError):  # the error above may be that stdout cannot be written
            print_json({"error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}})
    return error.exit_code


def _discard_stdout() -> None:
    """Redirect stdout to the null device: its reader is gone, and Python would complain about that at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
