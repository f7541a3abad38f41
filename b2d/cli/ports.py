"""The command ports."""

import click

from b2d.cli.base import Command, create_app, print_line, print_result
from b2d.reporting.table import render_table


@click.command(cls=Command, read_only=True, example="b2d ports")
def ports() -> None:
    """List the ports that containers publish on this host."""
    from dataclasses import asdict

    from b2d.app import inspect

    rows = inspect.ports(create_app())
    lines = [
        ("CONTAINER", "PORT", "HOST", "STATE"),
        *(
            (port.container, f"{port.inside}/{port.protocol}", f"{port.address}:{port.port}", port.state)
            for port in rows
        ),
    ]
    print_result([asdict(row) for row in rows], render_table(lines) if rows else "")
    if not rows:
        print_line("no container publishes a port")
