"""Commands for the machine's data disk."""

from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, Commands, create_app, print_line, print_result
from b2d.machine_names import command_for, commands_for
from b2d.reporting.table import render_table

if TYPE_CHECKING:
    from b2d.machine.disk_usage import DataDisk


class StandaloneGroup(Commands):
    """A group that runs its command `show` when none is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; insert `show` where they name no command."""
        alone = not ctx.resilient_parsing and (not args or args[0].startswith("-"))
        if alone and not {*args[:1]} & {*ctx.help_option_names}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=StandaloneGroup, example="b2d disk")
def disk() -> None:
    """Show, grow and compact the machine's data disk."""


@disk.command(cls=Command, read_only=True, example="b2d disk show --json")
def show() -> None:
    """Show the disk's usage in the guest and on this host."""
    from dataclasses import asdict

    from b2d.host.files import folder_bytes

    app = create_app()
    usage, templates = _data_disk().use(), folder_bytes(app.home.templates)
    rows = [
        ("WHAT", "SIZE"),
        ("disk size in the guest", _format_size(usage.size)),
        ("used on this host", _format_size(usage.room)),
    ]
    if usage.files is not None:
        rows += [
            ("used in the guest", _format_size(usage.files.used)),
            ("free in the guest", _format_size(usage.files.free)),
        ]
    rows.append(("templates of all machines", _format_size(templates)))
    print_result({"name": app.settings.vm, **asdict(usage), "templates": templates}, render_table(rows))


@disk.command(cls=Command, example="b2d stop && b2d disk grow 40000 && b2d up")
@click.argument("size", metavar="MIB")
def grow(size: str) -> None:
    """Grow the disk of a stopped machine; takes effect at its next start."""
    from dataclasses import asdict

    from b2d.config import loader
    from b2d.machine.reconfigure import apply_changes

    app = create_app()
    size_mib = loader.parse_value(loader.RawSetting("", "disk", size, "disk"))
    changes = apply_changes(app.machine(), {"disk": size_mib}).changes
    for change in changes:
        print_line(
            f"the disk of {app.settings.vm} has {change.after} MiB, was {change.before} MiB; "
            f"the guest uses all of it after {command_for('up', app.settings.vm)}"
        )
    if not changes:
        print_line(f"the disk of {app.settings.vm} has {size_mib} MiB already")
    print_result({change.key: asdict(change) | {"counts": "start"} for change in changes})


@disk.command(cls=Command, example="b2d disk compact")
def compact() -> None:
    """Return unused space to this host; all data is kept."""
    from dataclasses import asdict

    data_disk = _data_disk()
    outcome, name = data_disk.compact(), data_disk.machine.name
    print_line(f"the disk uses {_format_size(outcome.after)} on this host, was {_format_size(outcome.before)}")
    if not outcome.done:
        command = commands_for(("stop", "disk compact"), name)
        print_line(f"unused space now holds zeros; to return it to this host: {command}")
    print_result({"name": name, **asdict(outcome)})


def _data_disk() -> "DataDisk":
    from b2d.machine.disk_usage import DataDisk

    app = create_app()
    return DataDisk(app.machine())


def _format_size(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"  # the unit in which disks are created and grown
