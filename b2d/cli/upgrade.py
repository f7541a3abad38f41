"""The commands that give a machine another image: upgrade and rollback."""

from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, confirm, create_app, print_line, print_result

if TYPE_CHECKING:
    from b2d.app.wiring import App
    from b2d.machine.image_upgrade import ImageUpgrade, UpgradeResult
    from b2d.models import Image

YES = click.option("-y", "--yes", is_flag=True, help="Do not ask before a saved state is ended.")


@click.command(cls=Command, example="b2d upgrade")
@click.option(
    "--image", metavar="SOURCE", default="", help="Follow another source: debian, boot2docker, a URL or file."
)
@YES
def upgrade(image: str, yes: bool) -> None:
    """Boot the newest image; go back if it does not start."""
    from b2d.image.source import describe_source

    app = create_app()
    other = describe_source(image) if image else ""

    def newest(source: str) -> "Image":
        stored, _, outcome = app.supply.update(source)
        print_line(f"the image {stored.version} is {outcome}")
        return stored

    result = _image_upgrade(app, yes).upgrade(newest, other)
    if result.changed:
        _report(app, result)
    else:
        print_line(f"{app.settings.vm} has the newest image already: {result.image.version}")
        _print_document(app, result)


@click.command(cls=Command, example="b2d rollback && b2d up")
@YES
def rollback(yes: bool) -> None:
    """Go back to the machine's previous image."""
    app = create_app()
    _report(app, _image_upgrade(app, yes).rollback())


def _image_upgrade(app: "App", yes: bool) -> "ImageUpgrade":
    from b2d.machine.image_upgrade import ImageUpgrade

    app.check_network()
    return ImageUpgrade(app.machine(), _skip_confirmation if yes else confirm)


def _skip_confirmation(_: str) -> None:
    pass


def _report(app: "App", result: "UpgradeResult") -> None:
    before = f", was {result.before}" if result.before else ""
    print_line(f"{app.settings.vm} is {result.state} with the image {result.image.version}{before}")
    _print_document(app, result)


def _print_document(app: "App", result: "UpgradeResult") -> None:
    image = result.image._asdict()
    document = {"name": app.settings.vm, "changed": result.changed, "state": result.state}
    print_result(
        document | {"image": {key: image[key] for key in ("sha256", "version", "source")}, "before": result.before}
    )
