"""Commands for this host: its machines, its images and the version.

Modules that only some of them need are imported inside the functions.
"""

from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, Commands, complete_values, create_app, print_line, print_result
from b2d.errors import B2dError
from b2d.machine_names import command_for
from b2d.reporting.table import render_table

if TYPE_CHECKING:
    from b2d.models import Image


@click.command("list", cls=Command, read_only=True, example="b2d list --json")
def list_machines() -> None:
    """List the machines of this home."""
    app = create_app()
    rows = []
    for name in app.store.names():
        try:
            machine = app.machine(name)
            spec = machine.spec()
            rows.append({"name": name, "state": str(machine.state()), "driver": spec.driver, "address": spec.address})
        except B2dError as error:  # a broken machine must not hide the others
            message = f"{error.message}; try: {error.hint}" if error.hint else error.message
            app.reporter.warn(message)
            rows.append(_unknown_row(name, message))
    for name in app.store.lost():
        message = (
            f"{name} has no machine.json: {command_for('up', name)} creates it, "
            f"{command_for('delete', name)} removes the remains"
        )
        app.reporter.warn(message)
        rows.append(_unknown_row(name, message))
    lines = [("NAME", "STATE", "DRIVER", "ADDRESS"), *(tuple(row.values())[:4] for row in rows)]
    print_result(rows, render_table(lines) if rows else "")
    if not rows:
        print_line(f"there is no machine yet; create one: {command_for('up', app.settings.vm)}")


def _unknown_row(name: str, error: str) -> dict[str, str]:
    return {"name": name, "state": "unknown", "driver": "", "address": "", "error": error}


ALLOW_EXPIRED = click.option(
    "--allow-expired",
    is_flag=True,
    help="Accept package indexes of Debian's that are expired, older than known, or missing.",
)


@click.command(cls=Command, example="b2d download && b2d restart")
@click.argument("source", required=False, shell_complete=complete_values)
@ALLOW_EXPIRED
def download(source: str | None, allow_expired: bool) -> None:
    """Download the newest image; machines use it at their next start.

    SOURCE is debian, boot2docker, a file, or the URL of an ISO or of a releases API (GitHub or GitHub Enterprise).
    """
    from b2d.formats import json_text
    from b2d.image.source import describe_source

    app = create_app()
    wanted = source or _followed_source(app.settings.vm) or app.settings.image
    image, changed, outcome = app.supplies(allow_expired=allow_expired).update(describe_source(wanted))
    print_line(f"{image.version} is {outcome}: {image.iso}")
    print_result({**json_text.document(image), "changed": changed})


def _followed_source(name: str) -> str:
    """Return the image source that the machine follows, "" when there is no machine."""
    spec = create_app().store.read(name)
    return spec.source if spec is not None else ""


@click.group(cls=Commands, example="b2d iso list")
def iso() -> None:
    """Build an image, or list the stored ones."""


@iso.command(cls=Command, example="b2d iso build -o b2d.iso")
@click.option("--arch", default="amd64", show_default=True, help="Processor architecture.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Output file.  [b2d.iso]")
@click.option("--mirror", metavar="URL", help="Debian mirror to download from.  [this host's own]")
@ALLOW_EXPIRED
def build(arch: str, output: str | None, mirror: str | None, allow_expired: bool) -> None:
    """Build a bootable ISO from signed Debian packages, and its manifest."""
    from pathlib import Path

    path = Path(output or "b2d.iso").absolute()
    version = create_app(mirror=mirror).supplies(allow_expired=allow_expired).build_to(arch, path)
    size = path.stat().st_size
    print_line(f"{version}, {_format_size(size)}")
    print_result({"path": path, "version": version, "size": size}, str(path))


@iso.command("list", cls=Command, read_only=True, example="b2d iso list")
def list_images() -> None:
    """List the stored images, newest first."""
    from b2d.formats import json_text

    images = create_app().images.all()
    rows = [
        (image.version, image.source, _format_size(image.size), image.sha256[:12], image.date, _describe_suites(image))
        for image in images
    ]
    lines = render_table([("VERSION", "SOURCE", "SIZE", "SHA256", "DATE", "SUITES"), *rows])
    print_result([json_text.document(image) for image in images], lines if images else "")


def _describe_suites(image: "Image") -> str:
    """Return the suites of Debian's archive that were not current at the build, "all" when each was; "" if unknown."""
    return (", ".join(image.lacks) or "all") if image.suites else ""


def _format_size(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


@click.command(cls=Command, read_only=True, example="b2d version")
def version() -> None:
    """Print the version of b2d."""
    from b2d import __version__

    print_result({"b2d": __version__}, f"b2d version: v{__version__}")
