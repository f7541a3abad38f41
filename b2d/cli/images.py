"""The verbs of this host: its machines, images and settings, as commands.

What not every one of them needs is imported where it is used.
"""

from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, Commands, app, complete_values, print_line, print_result
from b2d.errors import B2dError
from b2d.reporting.table import render_table

if TYPE_CHECKING:
    from b2d.models import Image


@click.command("list", cls=Command, looks=True, example="b2d list --json")
def list_machines() -> None:
    """All machines of this home."""
    it = app()
    rows = []
    for name in it.store.names():
        try:
            machine = it.machine(name)
            spec = machine.spec()
            rows.append({"name": name, "state": str(machine.state()), "driver": spec.driver, "address": spec.address})
        except B2dError as error:  # the others are there all the same
            said = f"{error.message}; try: {error.hint}" if error.hint else error.message
            it.reporter.warn(said)
            rows.append(_unknown(name, said))
    for name in it.store.lost():
        said = f"{name} has no description: b2d up --vm {name} makes one, b2d delete --vm {name} removes what is there"
        it.reporter.warn(said)
        rows.append(_unknown(name, said))
    lines = [("NAME", "STATE", "DRIVER", "ADDRESS"), *(tuple(row.values())[:4] for row in rows)]
    print_result(rows, render_table(lines) if rows else "")
    if not rows:
        print_line("there is no machine yet; make one: b2d up")


def _unknown(name: str, error: str) -> dict[str, str]:
    return {"name": name, "state": "unknown", "driver": "", "address": "", "error": error}


ALLOW_EXPIRED = click.option(
    "--allow-expired",
    is_flag=True,
    help="Take an expired or older index of Debian's, and do without one that is missing.",
)


@click.command(cls=Command, example="b2d download && b2d restart")
@click.argument("source", required=False, shell_complete=complete_values)
@ALLOW_EXPIRED
def download(source: str | None, allow_expired: bool) -> None:
    """Get the newest image; machines take it up when they start.

    SOURCE is debian, boot2docker, a file, or the address of an ISO or of a releases API (GitHub's or an Enterprise's).
    """
    from dataclasses import asdict

    from b2d.image.source import describe_source

    it = app()
    wanted = source or _followed_source(it.settings.vm) or it.settings.image
    image, changed, word = it.supplies(allow_expired=allow_expired).update(describe_source(wanted))
    print_line(f"{image.version} is {word}: {image.iso}")
    print_result({**asdict(image), "changed": changed})


def _followed_source(name: str) -> str:
    """What the machine follows, "" when there is none."""
    spec = app().store.read(name)
    return spec.source if spec is not None else ""


@click.group(cls=Commands, example="b2d iso list")
def iso() -> None:
    """Images: assemble one, or see which are kept."""


@iso.command(cls=Command, example="b2d iso build -o b2d.iso")
@click.option("--arch", default="amd64", show_default=True, help="The processor.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Where to put it.  [b2d.iso]")
@click.option("--mirror", metavar="URL", help="The Debian mirror to ask.  [this host's own]")
@ALLOW_EXPIRED
def build(arch: str, output: str | None, mirror: str | None, allow_expired: bool) -> None:
    """Assemble a bootable ISO from signed Debian packages. A manifest lies beside it."""
    from pathlib import Path

    path = Path(output or "b2d.iso").absolute()
    version = app(mirror=mirror).supplies(allow_expired=allow_expired).build_to(arch, path)
    size = path.stat().st_size
    print_line(f"{version}, {size / 1e6:.1f} MB")
    print_result({"path": path, "version": version, "size": size}, str(path))


@iso.command("list", cls=Command, looks=True, example="b2d iso list")
def list_images() -> None:
    """The images that are kept, the newest first."""
    from dataclasses import asdict

    images = app().images.all()
    rows = [
        (one.version, one.source, f"{one.size / 1e6:.1f} MB", one.sha256[:12], one.date, _suites(one)) for one in images
    ]
    lines = render_table([("VERSION", "SOURCE", "SIZE", "SHA256", "DATE", "SUITES"), *rows])
    print_result([asdict(image) for image in images], lines if images else "")


def _suites(image: "Image") -> str:
    """Whether it was built from all suites of Debian's archive as they were then; "" where it does not say."""
    return (", ".join(image.lacks) or "all") if image.suites else ""


@click.command(cls=Command, looks=True, example="b2d version")
def version() -> None:
    """The version of this program."""
    from b2d import __version__

    print_result({"b2d": __version__}, f"b2d version: v{__version__}")
