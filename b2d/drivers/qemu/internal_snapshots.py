"""Snapshots inside the data disk of a QEMU machine: made by the QEMU that has it open, else by qemu-img."""

from dataclasses import dataclass, replace
from pathlib import Path

from b2d.drivers.qemu import qcow2
from b2d.drivers.qemu.qmp import Qmp
from b2d.drivers.qemu.saved_state import DATA_NODE
from b2d.host import processes
from b2d.models import Snapshot
from b2d.paths import MachinePaths

# before a name: none of ours can be that of a saved state, or one of the numbers that QEMU gives and takes for names
OURS = "b2d:"
TIMEOUT_S = 300.0


def listed(disk: Path) -> list[Snapshot]:
    """Those that somebody made by `b2d snapshot`."""
    found = [one for one in qcow2.snapshots(disk) if one.name.startswith(OURS)]
    return sorted((replace(one, name=one.name.removeprefix(OURS)) for one in found), key=lambda one: one.taken_s)


@dataclass(frozen=True, slots=True)
class SnapshotDisk:
    """A data disk; `in_use`: by a QEMU, which alone may change it then."""

    paths: MachinePaths
    in_use: bool

    def take(self, name: str) -> None:
        """Make one of what the disk is now."""
        if self.in_use:
            self._asked("blockdev-snapshot-internal-sync", name)
        else:
            self._tool("-c", name)

    def drop(self, name: str) -> None:
        """Remove it; what it alone held is given back to the host."""
        if self.in_use:
            self._asked("blockdev-snapshot-delete-internal-sync", name)
        else:
            self._tool("-d", name)

    def go_back(self, name: str) -> None:
        """Make the disk what it was then, its size too; nobody may have it open."""
        self._tool("-a", name)

    def _asked(self, command: str, name: str) -> None:
        with Qmp(self.paths.qmp_socket) as qmp:
            qmp.execute(command, TIMEOUT_S, device=DATA_NODE, name=OURS + name)

    def _tool(self, option: str, name: str) -> None:
        processes.check(
            ["qemu-img", "snapshot", "-q", option, OURS + name, str(self.paths.disk_qcow2)], timeout_s=TIMEOUT_S
        )
