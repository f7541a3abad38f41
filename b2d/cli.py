"""The command line: which verbs there are, how an error is said, and the only exit."""

import sys
from typing import Any

import click

from b2d.command import common, given
from b2d.errors import B2dError

INTERRUPTED = 130
USAGE = 2

# verb: module and function; loaded when it is used
VERBS = {
    "init": "cli_machine:init",
    "up": "cli_machine:up",
    "stop": "cli_machine:stop",
    "restart": "cli_machine:restart",
    "save": "cli_machine:save",
    "poweroff": "cli_machine:poweroff",
    "reset": "cli_machine:reset",
    "delete": "cli_machine:delete",
    "ssh": "cli_machine:ssh",
    "shellinit": "cli_machine:shellinit",
    "ip": "cli_machine:ip",
    "status": "cli_machine:status",
    "info": "cli_machine:info",
    "logs": "cli_machine:logs",
    "list": "cli_host:list_machines",
    "download": "cli_host:download",
    "iso": "cli_host:iso",
    "config": "cli_host:config",
    "doctor": "cli_host:doctor",
    "version": "cli_host:version",
}
ALIASES = {
    "start": "up",
    "boot": "up",
    "resume": "up",
    "down": "stop",
    "halt": "stop",
    "suspend": "save",
    "destroy": "delete",
    "rm": "delete",
    "env": "shellinit",
    "inspect": "info",
    "cfg": "config",
    "ls": "list",
}


class Verbs(click.Group):
    """The verbs, each loaded from its module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        where = VERBS.get(ALIASES.get(cmd_name, cmd_name))
        if where is None:
            return None
        import importlib

        module, _, function = where.partition(":")
        found = getattr(importlib.import_module(f"b2d.{module}"), function)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"there is no command {args[0]!r}{_near(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Other names"):
            formatter.write_dl(list(ALIASES.items()))


def _near(verb: str) -> str:
    import difflib

    near = difflib.get_close_matches(verb, [*VERBS, *ALIASES], n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def _group() -> Verbs:
    text = "A Docker host with one command: a tiny Linux in a virtual machine, with its data on a disk that survives."
    group = Verbs(name="b2d", help=text, context_settings={"help_option_names": ["-h", "--help"]})
    group.params += [*common(), click.version_option(_version(), prog_name="b2d")(lambda: None).__click_params__[0]]  # type: ignore[attr-defined]
    return group


def _version() -> str:
    from b2d import __version__

    return __version__


def main() -> int:
    """Run this process's command line; its exit code."""
    arguments = sys.argv[1:] or ["--help"]
    context: click.Context | None = None
    try:
        context = _group().make_context("b2d", arguments)
        with context:
            return _code(context.command.invoke(context))
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _usage(error)
    except B2dError as error:
        return _said(error, context)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\nb2d: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return 1


def _code(result: object) -> int:
    """A verb returns its exit code where it has one of its own."""
    return result if isinstance(result, int) else 0


def _usage(error: click.ClickException) -> int:
    sys.stderr.write(f"b2d: {error.format_message()}\n")
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = context.command_path if context else "b2d"
    sys.stderr.write(f"     try: {where} --help\n")
    return USAGE


def _said(error: B2dError, context: click.Context | None) -> int:
    verbose = context is not None and given(context).get("verbose")
    sys.stderr.write(f"b2d: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"     try: {error.hint}\n")
    if error.details and verbose:
        sys.stderr.write(error.details.rstrip() + "\n")
    elif error.details:
        sys.stderr.write("     more: -v\n")
    return error.exit_code


def _close_stdout() -> None:
    """Nobody reads it: without this Python complains about that when it ends."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
