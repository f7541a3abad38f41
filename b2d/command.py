"""What every command has in common: its options, and the app that they make."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from b2d.app import App

SETTINGS = "settings"  # in the context's meta: what was given, before the verb or after it


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> object:
    if value is not None and value is not False:
        context.meta.setdefault(SETTINGS, {})[parameter.name] = value
    return value


def common() -> list[click.Parameter]:
    """The options that may stand before the verb and after it."""

    def option(*names: str, **facts: Any) -> click.Option:
        return click.Option(names, callback=_keep, expose_value=False, **facts)

    return [
        option("--vm", metavar="NAME", help="The machine.  [boot2docker-vm]"),
        option("--driver", metavar="NAME", help="The hypervisor: auto, qemu, virtualbox."),
        option("-q", "--quiet", is_flag=True, help="Say only what went wrong."),
        option("-v", "--verbose", is_flag=True, help="Say all that is known of what went wrong."),
    ]


class Command(click.Command):
    """A command with the common options."""

    def __init__(self, *arguments: Any, **facts: Any) -> None:
        super().__init__(*arguments, **facts)
        self.params += common()


def given(context: click.Context) -> dict[str, object]:
    """The common options of this command line."""
    found: dict[str, object] = context.find_root().meta.get(SETTINGS, {})
    return found


def app(**flags: object) -> "App":
    """The app of this command line; `flags` are settings that the command has options for."""
    from b2d import app as wiring
    from b2d import console

    said = given(click.get_current_context())
    chosen = {key: value for key, value in said.items() if key in ("vm", "driver")}
    reporter = console.choose(sys.stderr, bool(said.get("quiet")), os.environ)
    return wiring.make(os.environ, chosen | flags, reporter)


def answer(text: str) -> None:
    """Say something that programs read: on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def answer_json(value: object) -> None:
    """The same as JSON."""
    import json

    answer(json.dumps(value, indent=2, default=str))


def say(text: str) -> None:
    """Say something for eyes: on stderr, unless --quiet."""
    if not given(click.get_current_context()).get("quiet"):
        sys.stderr.write(text + "\n")


as_json: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
