"""What a machine has on its disk, for Python programs: copies, snapshots, and the room that it takes."""

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
    """The verbs of `from b2d import Machine` that are about its data."""

    _app: App

    def send(self, source: str | os.PathLike[str], to: str) -> "Copied":
        """Copy a file or folder of this host to a path of the machine, as the user docker, whole or not at all."""
        with self._copying() as copying:
            return copying.send(os.fspath(source), to)

    def fetch(self, source: str, to: str | os.PathLike[str]) -> "Copied":
        """The other way."""
        with self._copying() as copying:
            return copying.fetch(source, os.fspath(to))

    def disk(self) -> "DiskUsage":
        """What its data takes, in bytes; `set(disk=MIB)` makes it larger."""
        return self._disk.use()

    def compact(self) -> "Compacted":
        """Give back to this host what holds no file any more; not `done` where it has to be off for the rest."""
        return self._disk.compact()

    def snapshots(self) -> "list[Snapshot]":
        """Those of its disk, the oldest first."""
        return self._snapshots.all()

    def snapshot(self, name: str) -> "Snapshot":
        """Keep what is on the disk now, of a machine that runs or is off."""
        return self._snapshots.create(name)

    def restore(self, name: str) -> "Snapshot":
        """Make the disk of a machine that is off what it was. What was written since is lost, without asking."""
        return self._snapshots.restore(name, lambda _: None)

    def forget(self, name: str) -> "Snapshot":
        """Delete a snapshot; the disk stays as it is."""
        return self._snapshots.delete(name)

    @property
    def _verbs(self) -> "Verbs":
        return self._app.machine()

    @property
    def _disk(self) -> "DataDisk":
        from b2d.machine.disk_usage import DataDisk

        it = self._app
        return DataDisk(it.settings.vm, it.store, it.driver, self._verbs.guest, it.reporter)

    @property
    def _snapshots(self) -> "SnapshotCommands":
        from b2d.machine.snapshots import SnapshotCommands

        it = self._app
        return SnapshotCommands(it.settings.vm, it.store, it.driver, self._verbs.guest, it.reporter)

    @contextmanager
    def _copying(self) -> "Iterator[Copier]":
        from b2d.guest.base import StreamsCommands
        from b2d.guest.transfer.copier import Copier

        with closing(self._verbs.guest()) as guest:
            assert isinstance(guest, StreamsCommands)
            yield Copier(self._app.settings.vm, guest, self._app.reporter)
