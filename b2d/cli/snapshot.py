"""Snapshots of a machine's disk, as commands."""

from typing import TYPE_CHECKING, Any

import click

from b2d.cli.base import Command, Commands, app, ask, print_line, print_result
from b2d.reporting.table import render_table

if TYPE_CHECKING:
    from b2d.machine.snapshots import SnapshotCommands
    from b2d.models import Snapshot


@click.group(cls=Commands, example="b2d snapshot create before-the-update")
def snapshot() -> None:
    """What is on the machine's disk, kept and brought back."""


@snapshot.command(cls=Command, example="b2d snapshot create before-the-update")
@click.argument("name")
def create(name: str) -> None:
    """Keep what is on the disk now, of a machine that runs or is off."""
    made = _snapshots().create(name)
    print_line(f"the snapshot {made.name} is taken")
    print_result(_report(made))


@snapshot.command("list", cls=Command, looks=True, example="b2d snapshot list --json")
def list_snapshots() -> None:
    """All of the machine's, the oldest first."""
    from datetime import datetime

    found = _snapshots().all()
    rows = [(one.name, f"{datetime.fromtimestamp(one.taken_s):%Y-%m-%d %H:%M}", _size(one.size)) for one in found]
    print_result([_report(one) for one in found], render_table([("NAME", "TAKEN", "SIZE"), *rows]) if found else "")
    if not found:
        print_line("there is no snapshot; take one: b2d snapshot create NAME")


@snapshot.command(cls=Command, example="b2d stop && b2d snapshot restore before-the-update && b2d up")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def restore(name: str, yes: bool) -> None:
    """Make the disk what it was: what was written since is lost."""
    restored = _snapshots().restore(name, (lambda _: None) if yes else ask)
    print_line(f"the disk is what it was at {restored.name}; start the machine: b2d up")
    print_result(_report(restored))


@snapshot.command(cls=Command, example="b2d snapshot delete before-the-update")
@click.argument("name")
def delete(name: str) -> None:
    """Forget one; the disk stays as it is."""
    gone = _snapshots().delete(name)
    print_line(f"the snapshot {gone.name} is deleted")
    print_result(_report(gone))


def _snapshots() -> "SnapshotCommands":
    from b2d.machine.snapshots import SnapshotCommands

    it = app()
    return SnapshotCommands(it.settings.vm, it.store, it.driver, lambda: it.machine().guest(), it.reporter)


def _report(one: "Snapshot") -> dict[str, Any]:
    from datetime import UTC, datetime

    taken = datetime.fromtimestamp(one.taken_s, UTC)
    return {"name": one.name, "taken": taken.isoformat().replace("+00:00", "Z"), "size": one.size}


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
