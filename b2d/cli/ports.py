"""The ports that containers publish, as a command."""

import click

from b2d.cli.base import Command, answer, app, say
from b2d.reporting.table import table


@click.command(cls=Command, looks=True, example="b2d ports")
def ports() -> None:
    """What containers publish, and where that is on this host."""
    from dataclasses import asdict

    from b2d.app import inspect

    rows = inspect.ports(app())
    lines = [
        ("CONTAINER", "PORT", "HOST", "STATE"),
        *((one.container, f"{one.inside}/{one.protocol}", f"{one.address}:{one.port}", one.state) for one in rows),
    ]
    answer([asdict(one) for one in rows], table(lines) if rows else "")
    if not rows:
        say("no container publishes a port")
