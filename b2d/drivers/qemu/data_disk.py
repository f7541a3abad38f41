"""What QemuDriver can do with the data disk of its machine."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from b2d.drivers.qemu.process import QemuProcess
from b2d.drivers.qemu.saved_state import SavedState
from b2d.errors import InvalidStateError, MachineNotFoundError
from b2d.host.files import allocated_bytes, os_errors_as_b2d_errors
from b2d.host.signals import signals_deferred
from b2d.models import OFF_STATES, ON_STATES, MachineSpec, MachineState, Snapshot
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.qemu.internal_snapshots import SnapshotDisk


class DataDisk(ABC):
    """GrowsDisk, CompactsDisk and TakesSnapshots of ports.py."""

    def __init__(self, spec: MachineSpec, paths: MachinePaths) -> None:
        self._spec = spec
        self._paths = paths
        self._process = QemuProcess(paths)
        self._saved = SavedState(paths)

    @abstractmethod
    def state(self) -> MachineState:
        """As Driver has it."""

    def disk_mib(self) -> int:
        from b2d.drivers.qemu import qcow2

        return qcow2.size(self._paths.disk_qcow2) >> 20

    def grow_disk(self, size_mib: int) -> None:
        from b2d.drivers.qemu import qemu_img

        self._off("grows")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            qemu_img.grow(self._paths.disk_qcow2, size_mib)

    @property
    def trims(self) -> bool:
        return True

    def disk_room(self) -> int:
        return allocated_bytes(self._paths.disk_qcow2)

    def compact_disk(self) -> None:
        from b2d.drivers.qemu import qemu_img

        self._off("is compacted")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            qemu_img.compact(self._paths.disk_qcow2)

    def snapshots(self) -> list[Snapshot]:
        from b2d.drivers.qemu import internal_snapshots

        return internal_snapshots.listed(self._paths.disk_qcow2)

    def take_snapshot(self, name: str) -> None:
        self._existing()
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._disk().take(name)

    def restore_snapshot(self, name: str) -> None:
        if (state := self._existing()) in ON_STATES:
            raise InvalidStateError(f"{self._spec.name} is {state}, and its disk is in use", hint="b2d stop")
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._process.end()  # what crashed may still have it
            self._disk().go_back(name)
            self._saved.discard()  # last: until then the next start would go on from it, as if nothing had been

    def delete_snapshot(self, name: str) -> None:
        self._existing()
        with signals_deferred(), os_errors_as_b2d_errors(self._paths.folder):
            self._disk().drop(name)

    def _disk(self) -> "SnapshotDisk":
        from b2d.drivers.qemu.internal_snapshots import SnapshotDisk

        return SnapshotDisk(self._paths, in_use=self._process.find() is not None)

    def _existing(self) -> MachineState:
        state = self.state()
        if state == MachineState.ABSENT:
            raise MachineNotFoundError(f"there is no machine {self._spec.name}", hint="b2d init")
        return state

    def _off(self, what: str) -> None:
        if (state := self._existing()) not in OFF_STATES:
            said = f"{self._spec.name} is {state}, and its disk {what} only while it is off"
            raise InvalidStateError(said, hint="b2d up && b2d stop")
