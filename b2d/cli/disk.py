"""The machine's data disk, as commands."""

from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, Commands, app, print_line, print_result
from b2d.reporting.table import render_table

if TYPE_CHECKING:
    from b2d.machine.disk_usage import DataDisk


class StandaloneGroup(Commands):
    """Without a command it answers as `show` does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        alone = not ctx.resilient_parsing and (not args or args[0].startswith("-"))
        if alone and not {*args[:1]} & {*ctx.help_option_names}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=StandaloneGroup, example="b2d disk")
def disk() -> None:
    """What the machine's data takes; make it larger, or give room back."""


@disk.command(cls=Command, looks=True, example="b2d disk show --json")
def show() -> None:
    """What it takes, in the guest and on this host."""
    from dataclasses import asdict

    use = _disk().use()
    rows = [("WHAT", "SIZE"), ("disk, as the guest sees it", _size(use.size)), ("on this host", _size(use.room))]
    if use.files is not None:
        told = (("files in the guest", use.files.used), ("free in the guest", use.files.free))
        rows += [(what, _size(size)) for what, size in told]
    print_result({"name": app().settings.vm, **asdict(use)}, render_table(rows))


@disk.command(cls=Command, example="b2d stop && b2d disk grow 40000 && b2d up")
@click.argument("size", metavar="MIB")
def grow(size: str) -> None:
    """Make it larger, of a machine that is off; its files have all of it from the next start on."""
    from dataclasses import asdict

    from b2d.config import loader
    from b2d.machine.reconfigure import apply_changes

    it = app()
    wanted = loader.value(loader.RawSetting("", "disk", size, "disk"))
    made = apply_changes(it.store, it.driver, it.settings.vm, {"disk": wanted}).changes
    for one in made:
        print_line(
            f"the disk of {it.settings.vm} has {one.after} MiB in place of {one.before}; the files have it after b2d up"
        )
    if not made:
        print_line(f"it has {wanted} MiB already")
    print_result({one.key: asdict(one) | {"counts": "start"} for one in made})


@disk.command(cls=Command, example="b2d disk compact")
def compact() -> None:
    """Give back to this host what holds no file any more; all data stays."""
    from dataclasses import asdict

    done = _disk().compact()
    print_line(f"the disk takes {_size(done.after)} of this host, {_size(done.before)} before")
    if not done.done:
        print_line("what is free is zeros now; to give that back: b2d stop && b2d disk compact")
    print_result({"name": app().settings.vm, **asdict(done)})


def _disk() -> "DataDisk":
    from b2d.machine.disk_usage import DataDisk

    it = app()
    return DataDisk(it.settings.vm, it.store, it.driver, lambda: it.machine().guest(), it.reporter)


def _size(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"  # as disks are made and grown
