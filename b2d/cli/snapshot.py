"""Commands for snapshots of a machine's disk."""

from typing import TYPE_CHECKING, Any

import click

from b2d.cli.base import Command, Commands, confirm, create_app, print_line, print_result
from b2d.machine_names import command_for
from b2d.reporting.table import render_table

if TYPE_CHECKING:
    from b2d.machine.snapshots import SnapshotCommands
    from b2d.models import Snapshot


@click.group(cls=Commands, example="b2d snapshot create before-the-update")
def snapshot() -> None:
    """Create, list, restore and delete snapshots of the disk."""


@snapshot.command(cls=Command, example="b2d snapshot create before-the-update")
@click.argument("name")
def create(name: str) -> None:
    """Create a snapshot of the disk of a running or stopped machine."""
    created = _snapshots().create(name)
    print_line(f"the snapshot {created.name} is created")
    print_result(_document(created))


@snapshot.command("list", cls=Command, read_only=True, example="b2d snapshot list --json")
def list_snapshots() -> None:
    """List the machine's snapshots, oldest first."""
    from datetime import datetime

    commands = _snapshots()
    snapshots = commands.all()
    rows = [
        (item.name, f"{datetime.fromtimestamp(item.taken_s):%Y-%m-%d %H:%M}", _format_size(item.size))
        for item in snapshots
    ]
    documents = [_document(item) for item in snapshots]
    print_result(documents, render_table([("NAME", "TAKEN", "SIZE"), *rows]) if snapshots else "")
    if not snapshots:
        command = command_for("snapshot create NAME", commands.machine.name)
        print_line(f"there is no snapshot; create one: {command}")


@snapshot.command(cls=Command, example="b2d stop && b2d snapshot restore before-the-update && b2d up")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
def restore(name: str, yes: bool) -> None:
    """Restore the disk from a snapshot; later data is lost."""
    commands = _snapshots()
    restored = commands.restore(name, (lambda _: None) if yes else confirm)
    command = command_for("up", commands.machine.name)
    print_line(f"the disk is restored from {restored.name}; start the machine: {command}")
    print_result(_document(restored))


@snapshot.command(cls=Command, example="b2d snapshot delete before-the-update")
@click.argument("name")
def delete(name: str) -> None:
    """Delete a snapshot; the disk is not changed."""
    deleted = _snapshots().delete(name)
    print_line(f"the snapshot {deleted.name} is deleted")
    print_result(_document(deleted))


def _snapshots() -> "SnapshotCommands":
    from b2d.machine.snapshots import SnapshotCommands

    app = create_app()
    return SnapshotCommands(app.machine())


def _document(snapshot: "Snapshot") -> dict[str, Any]:
    from datetime import UTC, datetime

    taken = datetime.fromtimestamp(snapshot.taken_s, UTC)
    return {"name": snapshot.name, "taken": taken.isoformat().replace("+00:00", "Z"), "size": snapshot.size}


def _format_size(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
