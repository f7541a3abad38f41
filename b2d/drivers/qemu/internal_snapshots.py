"""Snapshots inside a QEMU machine's data disk, by the QEMU that has it open, else by qemu-img."""

from dataclasses import dataclass
from pathlib import Path

from b2d.drivers.qemu import qcow2
from b2d.drivers.qemu.qmp import Qmp
from b2d.drivers.qemu.saved_state import DATA_NODE
from b2d.host import processes
from b2d.models import Snapshot
from b2d.paths import MachinePaths

# with it no name equals that of a saved state, or one of the numbers that QEMU also accepts as names
PREFIX = "b2d:"
TIMEOUT_S = 300.0


def list_snapshots(disk: Path) -> list[Snapshot]:
    """Return the snapshots that were made by `b2d snapshot`, the oldest first."""
    snapshots = [snapshot for snapshot in qcow2.read_snapshots(disk) if snapshot.name.startswith(PREFIX)]
    return sorted(
        (snapshot._replace(name=snapshot.name.removeprefix(PREFIX)) for snapshot in snapshots),
        key=lambda snapshot: snapshot.taken_s,
    )


@dataclass(frozen=True, slots=True)
class SnapshotDisk:
    """A data disk; `in_use` when a QEMU has it open, which alone may change it then."""

    paths: MachinePaths
    in_use: bool

    def take(self, name: str) -> None:
        """Create a snapshot of the current disk."""
        if self.in_use:
            self._run_qmp("blockdev-snapshot-internal-sync", name)
        else:
            self._run_qemu_img("-c", name)

    def delete(self, name: str) -> None:
        """Delete a snapshot; space that it alone used returns to the host."""
        if self.in_use:
            self._run_qmp("blockdev-snapshot-delete-internal-sync", name)
        else:
            self._run_qemu_img("-d", name)

    def restore(self, name: str) -> None:
        """Restore the disk and its size from a snapshot; no process may have it open."""
        self._run_qemu_img("-a", name)

    def _run_qmp(self, command: str, name: str) -> None:
        with Qmp(self.paths.qmp_socket) as qmp:
            qmp.execute(command, TIMEOUT_S, device=DATA_NODE, name=PREFIX + name)

    def _run_qemu_img(self, option: str, name: str) -> None:
        processes.check(
            ["qemu-img", "snapshot", "-q", option, PREFIX + name, str(self.paths.disk_qcow2)], timeout_s=TIMEOUT_S
        )
