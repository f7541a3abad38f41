"""The verbs that give a machine another image, as commands."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, app, ask, print_line, print_result

if TYPE_CHECKING:
    from b2d.app.wiring import App
    from b2d.machine.image_upgrade import ImageUpgrade, UpgradeResult
    from b2d.models import Image

YES = click.option("-y", "--yes", is_flag=True, help="Do not ask about a saved state.")


@click.command(cls=Command, example="b2d upgrade")
@YES
def upgrade(yes: bool) -> None:
    """Boot the newest image; where it does not come up, go back."""
    it = app()

    def newest(source: str) -> "Image":
        image, _, word = it.supply.update(source)
        print_line(f"the image {image.version} is {word}")
        return image

    done = _image_upgrade(it, yes).upgrade(newest)
    if done.changed:
        _report(it, done)
    else:
        print_line(f"{it.settings.vm} has the newest image already: {done.image.version}")
        _outcome_json(it, done)


@click.command(cls=Command, example="b2d rollback && b2d up")
@YES
def rollback(yes: bool) -> None:
    """Go back to the image that the machine had before."""
    it = app()
    _report(it, _image_upgrade(it, yes).rollback())


def _image_upgrade(it: "App", yes: bool) -> "ImageUpgrade":
    from b2d.machine.image_upgrade import ImageUpgrade

    it.check_network()
    return ImageUpgrade(it.machine(), it.store, it.images, it.driver, _confirmed if yes else ask)


def _confirmed(_: str) -> None:
    pass


def _report(it: "App", done: "UpgradeResult") -> None:
    instead = f", in place of {done.before}" if done.before else ""
    print_line(f"{it.settings.vm} is {done.state} with the image {done.image.version}{instead}")
    _outcome_json(it, done)


def _outcome_json(it: "App", done: "UpgradeResult") -> None:
    image = asdict(done.image)
    document = {"name": it.settings.vm, "changed": done.changed, "state": done.state}
    print_result(
        document | {"image": {key: image[key] for key in ("sha256", "version", "source")}, "before": done.before}
    )
