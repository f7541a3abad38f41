"""Commands' common base: options, help, output, and the app that is built from the options."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from b2d.cli.help_format import NarrowFormatter
from b2d.config.boot2docker_profile import SWITCHES, VALUED
from b2d.errors import B2dError, ConfigError
from b2d.machine_names import DEFAULT_NAME, command_for
from b2d.reporting.safe_text import json_text, many_lines
from b2d.reporting.stderr import print_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from b2d.app.wiring import App
    from b2d.reporting.base import Reporter

SETTINGS = "settings"  # key in the context's meta: the options given before the verb or after it
NOT_SETTINGS = frozenset({"quiet", "verbose", "as_json", "no_tls", "dir"})


def _record_option(context: click.Context, parameter: click.Parameter, value: object) -> object:
    if value is not None and value is not False:
        context.meta.setdefault(SETTINGS, {})[parameter.name] = value
    return value


def _recorded_option(*names: str, **attributes: Any) -> click.Option:
    return click.Option(names, callback=_record_option, expose_value=False, **attributes)


def common_options() -> list[click.Parameter]:
    """Return the options that may stand before the verb and after it."""
    return [
        _recorded_option(
            "--vm", metavar="NAME", shell_complete=_complete_machines, help="Machine name.  [boot2docker-vm]"
        ),
        _recorded_option(
            "--driver", metavar="NAME", shell_complete=complete_values, help="Hypervisor: auto, qemu or virtualbox."
        ),
        _recorded_option("-q", "--quiet", is_flag=True, help="Print errors and warnings only."),
        _recorded_option("-v", "--verbose", is_flag=True, help="Show error details."),
        _recorded_option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    ]


def new_machine_options(*, hidden: bool = False) -> list[click.Parameter]:
    """Return the options of the verbs that create a machine.

    They are accepted before the verb too, as boot2docker did in 2014.
    """
    return [
        _recorded_option(
            "-m", "--memory", type=int, metavar="MIB", hidden=hidden, help="Memory of a new machine.  [2048]"
        ),
        _recorded_option(
            "-c", "--cpus", type=int, metavar="N", hidden=hidden, help="CPUs of a new machine.  [all of this host]"
        ),
        _recorded_option(
            "-s",
            "--disk",
            type=int,
            metavar="MIB",
            hidden=hidden,
            help="Data disk of a new machine; grows as it fills.  [20000]",
        ),
        _recorded_option("disk", "--disksize", type=int, hidden=True),  # its name in 2014
        _recorded_option(
            "--image",
            metavar="SOURCE",
            hidden=hidden,
            shell_complete=complete_values,
            help="Image: debian, boot2docker, a URL or a file.  [debian]",
        ),
        _recorded_option(
            "--no-tls", is_flag=True, hidden=hidden, help="Serve Docker without TLS on port 2375, to this host only."
        ),
    ]


def hidden_options(arguments: list[str], listed: list[click.Parameter]) -> list[click.Parameter]:
    """Return options for arguments that no help lists: settings by their names, and boot2docker's flags."""
    spellings = {spelling for option in listed for spelling in option.opts}
    words = dict.fromkeys(word.partition("=")[0] for word in arguments if word.startswith("--"))
    return [option for word in words if word not in spellings and (option := _hidden_option(word)) is not None]


def _hidden_option(word: str) -> click.Option | None:
    if word in VALUED or word in SWITCHES:
        return _recorded_option(word, hidden=True, is_flag=word in SWITCHES, multiple=word == "--vbox-share")
    from b2d.config.settings import Settings

    key = word[2:].replace("-", "_")
    kinds = {field: type(getattr(Settings(), field)) for field in Settings._fields}
    if kinds.get(switch := key.removeprefix("no_")) is bool:
        return _recorded_option(switch, word, hidden=True, flag_value="yes" if key == switch else "no")
    return _recorded_option(word, hidden=True, multiple=kinds[key] is tuple) if key in kinds else None


def _complete_machines(context: click.Context, _: click.Parameter, typed: str) -> list[str]:
    from b2d.cli import completion_values

    return completion_values.machine_names(get_environment(context), typed)


def complete_values(_: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Return the values that shell completion offers for an option or argument."""
    from b2d.cli import completion_values

    return completion_values.setting_values(parameter.name or "", typed)


class Context(click.Context):
    """The click context of all commands of b2d."""

    formatter_class = NarrowFormatter


class Command(click.Command):
    """A command with the common options, and an example below its help.

    A `read_only` command works in another user's home too; every other command refuses there, whatever it would do.
    """

    context_class = Context

    def __init__(
        self, *arguments: Any, example: str, creates: bool = False, read_only: bool = False, **attributes: Any
    ) -> None:
        """Add the common options, and with `creates` those of a new machine."""
        super().__init__(*arguments, **attributes)
        self.params += [*(new_machine_options() if creates else []), *common_options()]
        self.example = example
        self.read_only = read_only

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises ConfigError in another user's home unless the command is read-only."""
        if not self.read_only:
            check_writable_home(ctx)
        return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, accepting settings that no help lists as options."""
        self.params += hidden_options(args, self.params)
        with _suggest_option(self.params):
            return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """Return the completions that the help lists, or else settings."""
        return super().shell_complete(ctx, incomplete) or _complete_settings(incomplete)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the example."""
        with formatter.section("Example"):
            formatter.write_text(self.example)


class Commands(click.Group):
    """A group of commands, which shows its help when it is run alone and suggests corrections."""

    context_class = Context

    def __init__(self, *arguments: Any, example: str, **attributes: Any) -> None:
        """Keep the example for the help."""
        super().__init__(*arguments, **attributes)
        self.example = example

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; without any, show the help."""
        with _suggest_option(self.params):
            return super().parse_args(ctx, args or self._default_arguments(ctx))

    def _default_arguments(self, ctx: click.Context) -> list[str]:
        if command_line_settings(ctx).get("as_json"):
            raise click.UsageError("missing command", ctx)
        return [] if ctx.resilient_parsing else ["--help"]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that the arguments name. Raises UsageError with a suggestion."""
        if args and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(
                f"there is no command {args[0]!r}{suggestion(args[0], self.list_spellings(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)

    def list_spellings(self, ctx: click.Context) -> list[str]:
        """Return every command name that is accepted, aliases included."""
        return self.list_commands(ctx)

    def list_sections(self, ctx: click.Context) -> dict[str, list[str]]:
        """Return the command names as the help groups them, by section title."""
        return {"Commands": self.list_commands(ctx)}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections with whole sentences, wrapped where necessary: click would cut them."""
        for title, names in self.list_sections(ctx).items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name, command.get_short_help_str(sys.maxsize)) for name, command in commands if command]
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the example."""
        with formatter.section("Example"):
            formatter.write_text(self.example)


@contextmanager
def _suggest_option(options: list[click.Parameter]) -> Iterator[None]:
    """Add a suggestion to click's error for an unknown option: click knows only the options that the help lists."""
    try:
        yield
    except click.NoSuchOption as error:
        word = error.option_name.partition("=")[0]
        known = [spelling for option in options for spelling in option.opts]
        message = f"no such option {word!r}{suggestion(word, [*known, *_setting_options()])}"
        raise click.UsageError(message, error.ctx) from error


def _complete_settings(typed: str) -> list["CompletionItem"]:
    """Return completions for the options that no help lists."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(flag) for flag in _setting_options() if typed.startswith("--") and flag.startswith(typed)]


def _setting_options() -> list[str]:
    """Return the settings' names as options."""
    from b2d.config.settings import Settings

    return ["--" + key.replace("_", "-") for key in Settings._fields]


def suggestion(word: str, known: list[str]) -> str:
    """Return a question for the end of an error message when `word` is close to a known one, else ""."""
    import difflib

    matches = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {matches[0]!r}?" if matches else ""


def command_line_settings(context: click.Context) -> dict[str, object]:
    """Return the common options given on this command line, by parameter name."""
    options: dict[str, object] = context.find_root().meta.get(SETTINGS, {})
    return options


def machine_command(verb: str) -> str:
    """Return the command `b2d VERB` for the machine that this command line names."""
    name = command_line_settings(click.get_current_context()).get("vm")
    return command_for(verb, str(name or DEFAULT_NAME))


def create_app(**flags: object) -> "App":
    """Create the app of this command line; `flags` are settings for which the command has its own options."""
    from b2d.app import wiring

    options = command_line_settings(click.get_current_context())
    settings = {key: value for key, value in options.items() if key not in NOT_SETTINGS}
    if options.get("no_tls"):
        settings["tls"] = False
    return wiring.make_app(get_environment(), settings | flags, create_reporter())


def create_reporter() -> "Reporter":
    """Create the reporter that this command line asks for."""
    from b2d.reporting import terminal

    return terminal.choose_reporter(
        sys.stderr, bool(command_line_settings(click.get_current_context()).get("quiet")), get_environment()
    )


def get_environment(context: click.Context | None = None) -> dict[str, str]:
    """Return this process's environment, with the home that --dir names."""
    import os

    folder = command_line_settings(context or click.get_current_context()).get("dir")
    return dict(os.environ) | ({"B2D_HOME": str(folder)} if folder else {})


def check_writable_home(context: click.Context | None = None) -> None:
    """Raise ConfigError in another user's home. An unreadable home is reported by whatever reads it first."""
    import os

    from b2d.config import loader
    from b2d.host.files import check_owner

    root = loader.resolve_home(get_environment(context)).root
    if os.access(root, os.R_OK | os.X_OK):
        check_owner(root)


def is_json() -> bool:
    """Return True when this command line asks for JSON."""
    return bool(command_line_settings(click.get_current_context()).get("as_json"))


def print_result(document: object, text: str = "") -> None:
    """Print a verb's result once: the document when JSON is requested, else the text, which may be empty."""
    if is_json():
        print_json(document)
    elif text:
        write(text + "\n")


def print_json(document: object) -> None:
    """Print a document as JSON, with every character escaped that would control a terminal."""
    import json

    write(json_text(json.dumps(document, indent=2, default=str, ensure_ascii=False)) + "\n")


def write(text: str) -> None:
    """Write to stdout and flush: unchanged to a pipe or file, without control characters to a terminal.

    Raises B2dError, and BrokenPipeError.
    """
    try:
        sys.stdout.write(many_lines(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise B2dError(f"stdout cannot be written: {error.strerror}") from error


def print_line(text: str) -> None:
    """Print a line for people on stderr, unless --quiet is given."""
    if not command_line_settings(click.get_current_context()).get("quiet"):
        print_error(text)


def confirm(consequence: str) -> None:
    """Ask for confirmation on the terminal. Raises B2dError when it is denied, ConfigError without a terminal."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{consequence}; stdin is not a terminal to confirm this on", hint="--yes")
    print_line(consequence)
    if not click.confirm("continue?", err=True):
        raise B2dError("cancelled: nothing was changed")
