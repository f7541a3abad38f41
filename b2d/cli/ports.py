"""The ports that containers publish, as a command."""

import click

from b2d.cli.base import Command, app, print_line, print_result
from b2d.reporting.table import render_table


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
    print_result([asdict(one) for one in rows], render_table(lines) if rows else "")
    if not rows:
        print_line("no container publishes a port")
