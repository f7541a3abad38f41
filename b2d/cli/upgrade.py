"""The verbs that give a machine another image, as commands."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, answer, app, ask, say

if TYPE_CHECKING:
    from b2d.app.wiring import App
    from b2d.machine.image_upgrade import Exchange, Outcome
    from b2d.models import Image

YES = click.option("-y", "--yes", is_flag=True, help="Do not ask about a saved state.")


@click.command(cls=Command, example="b2d upgrade")
@YES
def upgrade(yes: bool) -> None:
    """Boot the newest image; where it does not come up, go back."""
    it = app()

    def newest(source: str) -> "Image":
        image, _, word = it.supply.renew(source)
        say(f"the image {image.version} is {word}")
        return image

    done = _exchange(it, yes).upgrade(newest)
    if done.changed:
        _tell(it, done)
    else:
        say(f"{it.settings.vm} has the newest image already: {done.image.version}")
        _answer(it, done)


@click.command(cls=Command, example="b2d rollback && b2d up")
@YES
def rollback(yes: bool) -> None:
    """Go back to the image that the machine had before."""
    it = app()
    _tell(it, _exchange(it, yes).rollback())


def _exchange(it: "App", yes: bool) -> "Exchange":
    from b2d.machine.image_upgrade import Exchange

    it.check_network()
    return Exchange(it.machine(), it.store, it.images, it.driver, _nobody_objects if yes else ask)


def _nobody_objects(_: str) -> None:
    pass


def _tell(it: "App", done: "Outcome") -> None:
    instead = f", in place of {done.before}" if done.before else ""
    say(f"{it.settings.vm} is {done.state} with the image {done.image.version}{instead}")
    _answer(it, done)


def _answer(it: "App", done: "Outcome") -> None:
    image = asdict(done.image)
    document = {"name": it.settings.vm, "changed": done.changed, "state": done.state}
    answer(document | {"image": {key: image[key] for key in ("sha256", "version", "source")}, "before": done.before})
