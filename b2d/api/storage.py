"""The API for a machine's data: copies, snapshots and disk usage."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from b2d.app.wiring import App

if TYPE_CHECKING:
    from b2d.guest.transfer.copier import Copied, Copier
    from b2d.machine.disk_usage import Compacted, DataDisk, DiskUsage
    from b2d.machine.lifecycle import Machine as Verbs
    from b2d.machine.snapshots import SnapshotCommands
    from b2d.models import Snapshot


class MachineStorage:
    """The methods of `from b2d import Machine` for its data."""

    _app: App

    def send(self, source: str | os.PathLike[str], to: str) -> "Copied":
        """Copy a file or folder of this host to a path in the guest, as the user docker, whole or not at all."""
        with self._copier() as copier:
            return copier.send(os.fspath(source), to)

    def fetch(self, source: str, to: str | os.PathLike[str]) -> "Copied":
        """Copy a file or folder of the guest to a path on this host, whole or not at all."""
        with self._copier() as copier:
            return copier.fetch(source, os.fspath(to))

    def disk(self) -> "DiskUsage":
        """Return the disk's usage in bytes; `set(disk=MIB)` grows the disk."""
        return self._disk.use()

    def compact(self) -> "Compacted":
        """Return unused space to this host; the result is not `done` when the machine must be off for the rest."""
        return self._disk.compact()

    def snapshots(self) -> "list[Snapshot]":
        """Return the snapshots of the disk, oldest first."""
        return self._snapshots.all()

    def snapshot(self, name: str) -> "Snapshot":
        """Create a snapshot of the disk of a running or stopped machine."""
        return self._snapshots.create(name)

    def restore(self, name: str) -> "Snapshot":
        """Restore the disk of a stopped machine. Data written since the snapshot is lost, without confirmation."""
        return self._snapshots.restore(name, lambda _: None)

    def forget(self, name: str) -> "Snapshot":
        """Delete a snapshot; the disk is not changed."""
        return self._snapshots.delete(name)

    @property
    def _verbs(self) -> "Verbs":
        return self._app.machine()

    @property
    def _disk(self) -> "DataDisk":
        from b2d.machine.disk_usage import DataDisk

        return DataDisk(self._verbs)

    @property
    def _snapshots(self) -> "SnapshotCommands":
        from b2d.machine.snapshots import SnapshotCommands

        return SnapshotCommands(self._verbs)

    @contextmanager
    def _copier(self) -> "Iterator[Copier]":
        from b2d.guest.base import StreamsCommands
        from b2d.guest.transfer.copier import Copier

        with closing(self._verbs.guest()) as guest:
            assert isinstance(guest, StreamsCommands)
            yield Copier(self._app.settings.vm, guest, self._app.reporter)
