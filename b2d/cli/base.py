"""What every command has in common: its options, its help, what it says, and the app that its options make."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from b2d.cli.help_format import NarrowFormatter
from b2d.config.boot2docker_profile import SWITCHES, VALUED
from b2d.errors import B2dError, ConfigError
from b2d.reporting.safe_text import json_text, many_lines
from b2d.reporting.stderr import print_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from b2d.app.wiring import App
    from b2d.reporting.base import Reporter

SETTINGS = "settings"  # in the context's meta: what was given, before the verb or after it
NO_SETTINGS = frozenset({"quiet", "verbose", "as_json", "no_tls", "dir"})


def _record_option(context: click.Context, parameter: click.Parameter, value: object) -> object:
    if value is not None and value is not False:
        context.meta.setdefault(SETTINGS, {})[parameter.name] = value
    return value


def _recorded_options(*names: str, **facts: Any) -> click.Option:
    return click.Option(names, callback=_record_option, expose_value=False, **facts)


def common_options() -> list[click.Parameter]:
    """The options that may stand before the verb and after it."""
    return [
        _recorded_options(
            "--vm", metavar="NAME", shell_complete=_complete_machines, help="The machine.  [boot2docker-vm]"
        ),
        _recorded_options(
            "--driver", metavar="NAME", shell_complete=complete_values, help="The hypervisor: auto, qemu, virtualbox."
        ),
        _recorded_options("-q", "--quiet", is_flag=True, help="Say only what went wrong."),
        _recorded_options("-v", "--verbose", is_flag=True, help="Say all that is known of what went wrong."),
        _recorded_options("--json", "as_json", is_flag=True, help="Answer in JSON."),
    ]


def new_machine_options(*, hidden: bool = False) -> list[click.Parameter]:
    """The options of the verbs that make one. Before the verb they are heard too, as in 2014."""
    return [
        _recorded_options(
            "-m", "--memory", type=int, metavar="MIB", hidden=hidden, help="Memory of a new machine.  [2048]"
        ),
        _recorded_options(
            "-c", "--cpus", type=int, metavar="N", hidden=hidden, help="CPUs of a new machine.  [all of this host]"
        ),
        _recorded_options(
            "-s", "--disk", type=int, metavar="MIB", hidden=hidden, help="Data disk; it grows as it fills.  [20000]"
        ),
        _recorded_options("disk", "--disksize", type=int, hidden=True),  # its name in 2014
        _recorded_options(
            "--image",
            metavar="SOURCE",
            hidden=hidden,
            shell_complete=complete_values,
            help="debian, boot2docker, an address or a file.  [debian]",
        ),
        _recorded_options(
            "--no-tls", is_flag=True, hidden=hidden, help="Docker without TLS on port 2375, for this host alone."
        ),
    ]


def hidden_options(arguments: list[str], listed: list[click.Parameter]) -> list[click.Parameter]:
    """Options for what is among the arguments and in no help: any setting by its name, and boot2docker's flags."""
    spelled = {spelling for one in listed for spelling in one.opts}
    said = dict.fromkeys(word.partition("=")[0] for word in arguments if word.startswith("--"))
    return [option for word in said if word not in spelled and (option := _hidden_option(word)) is not None]


def _hidden_option(word: str) -> click.Option | None:
    if word in VALUED or word in SWITCHES:
        return _recorded_options(word, hidden=True, is_flag=word in SWITCHES, multiple=word == "--vbox-share")
    from b2d.config.settings import Settings

    key = word[2:].replace("-", "_")
    kinds = {field: type(getattr(Settings(), field)) for field in Settings.__slots__}
    if kinds.get(switch := key.removeprefix("no_")) is bool:
        return _recorded_options(switch, word, hidden=True, flag_value="yes" if key == switch else "no")
    return _recorded_options(word, hidden=True, multiple=kinds[key] is tuple) if key in kinds else None


def _complete_machines(context: click.Context, _: click.Parameter, typed: str) -> list[str]:
    from b2d.cli import completion_values

    return completion_values.machine_names(environment(context), typed)


def complete_values(_: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """What an option or argument of that name may be, for who presses TAB."""
    from b2d.cli import completion_values

    return completion_values.setting_values(parameter.name or "", typed)


class Context(click.Context):
    """The context of every command here."""

    formatter_class = NarrowFormatter


class Command(click.Command):
    """A command with the common options, and an example below its help.

    One that only `looks` answers in another user's home too; every other one refuses there, whatever it would do.
    """

    context_class = Context

    def __init__(self, *arguments: Any, example: str, makes: bool = False, looks: bool = False, **facts: Any) -> None:
        super().__init__(*arguments, **facts)
        self.params += [*(new_machine_options() if makes else []), *common_options()]
        self.example = example
        self.looks = looks

    def invoke(self, ctx: click.Context) -> Any:
        if not self.looks:
            check_writable_home(ctx)
        return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        self.params += hidden_options(args, self.params)
        with _suggest_option(self.params):
            return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        """What its help lists, else settings."""
        return super().shell_complete(ctx, incomplete) or _complete_settings(incomplete)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Example"):
            formatter.write_text(self.example)


class Commands(click.Group):
    """A command of commands: alone it shows its help, and it knows what was meant."""

    context_class = Context

    def __init__(self, *arguments: Any, example: str, **facts: Any) -> None:
        super().__init__(*arguments, **facts)
        self.example = example

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _suggest_option(self.params):
            return super().parse_args(ctx, args or self._alone(ctx))

    def _alone(self, ctx: click.Context) -> list[str]:
        if command_line_settings(ctx).get("as_json"):
            raise click.UsageError("missing command", ctx)
        return [] if ctx.resilient_parsing else ["--help"]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"there is no command {args[0]!r}{suggestion(args[0], self.spellings(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def spellings(self, ctx: click.Context) -> list[str]:
        """All that may be typed here."""
        return self.list_commands(ctx)

    def sections(self, ctx: click.Context) -> dict[str, list[str]]:
        """The commands as the help groups them."""
        return {"Commands": self.list_commands(ctx)}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in self.sections(ctx).items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):  # the whole sentence, wrapped where need be: click would cut it
                formatter.write_dl([(name, one.get_short_help_str(sys.maxsize)) for name, one in found if one])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Example"):
            formatter.write_text(self.example)


@contextmanager
def _suggest_option(options: list[click.Parameter]) -> Iterator[None]:
    """Tell what was meant by an option that is not there: click does not know those that no help lists."""
    try:
        yield
    except click.NoSuchOption as error:
        word = error.option_name.partition("=")[0]
        known = [spelling for one in options for spelling in one.opts]
        raise click.UsageError(f"no such option {word!r}{suggestion(word, [*known, *_flags()])}", error.ctx) from error


def _complete_settings(typed: str) -> list["CompletionItem"]:
    """The options that no help lists, for who presses TAB."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(flag) for flag in _flags() if typed.startswith("--") and flag.startswith(typed)]


def _flags() -> list[str]:
    """The settings as options."""
    from b2d.config.settings import Settings

    return ["--" + key.replace("_", "-") for key in Settings.__slots__]


def suggestion(word: str, known: list[str]) -> str:
    """A question for the end of a sentence, where `word` is nearly a known one."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {found[0]!r}?" if found else ""


def command_line_settings(context: click.Context) -> dict[str, object]:
    """The common options of this command line."""
    found: dict[str, object] = context.find_root().meta.get(SETTINGS, {})
    return found


def app(**flags: object) -> "App":
    """The app of this command line; `flags` are settings that the command has options of its own for."""
    from b2d.app import wiring

    said = command_line_settings(click.get_current_context())
    chosen = {key: value for key, value in said.items() if key not in NO_SETTINGS}
    if said.get("no_tls"):
        chosen["tls"] = False
    return wiring.make_app(environment(), chosen | flags, reporter())


def reporter() -> "Reporter":
    """The voice of this command line."""
    from b2d.reporting import terminal

    return terminal.choose_reporter(
        sys.stderr, bool(command_line_settings(click.get_current_context()).get("quiet")), environment()
    )


def environment(context: click.Context | None = None) -> dict[str, str]:
    """This process's, with the home that --dir names."""
    import os

    folder = command_line_settings(context or click.get_current_context()).get("dir")
    return dict(os.environ) | ({"B2D_HOME": str(folder)} if folder else {})


def check_writable_home(context: click.Context | None = None) -> None:
    """Raise ConfigError in another user's home. One that is closed is told by whoever reads in it first."""
    import os

    from b2d.config import loader
    from b2d.host.files import check_owner

    root = loader.home(environment(context)).root
    if os.access(root, os.R_OK | os.X_OK):
        check_owner(root)


def as_json() -> bool:
    """True when this command line asks for JSON."""
    return bool(command_line_settings(click.get_current_context()).get("as_json"))


def print_result(document: object, text: str = "") -> None:
    """The answer of a verb, once: the document where JSON was asked for, else the text, which may be none."""
    if as_json():
        print_json(document)
    elif text:
        write(text + "\n")


def print_json(document: object) -> None:
    """Answer in JSON, in which no character is one that a terminal obeys."""
    import json

    write(json_text(json.dumps(document, indent=2, default=str, ensure_ascii=False)) + "\n")


def write(text: str) -> None:
    """Put it on stdout, at once: to programs byte for byte, and to a terminal what moves none. Raises B2dError."""
    try:
        sys.stdout.write(many_lines(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise B2dError(f"the answer cannot be written: {error.strerror}") from error


def print_line(text: str) -> None:
    """Say something for eyes: on stderr, unless --quiet."""
    if not command_line_settings(click.get_current_context()).get("quiet"):
        print_error(text)


def ask(what: str) -> None:
    """Let a person agree to what would become of something. Raises B2dError where they do not, or cannot be asked."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{what}, and nobody can be asked", hint="--yes")
    print_line(what)
    if not click.confirm("go on?", err=True):
        raise B2dError("nothing was done")
