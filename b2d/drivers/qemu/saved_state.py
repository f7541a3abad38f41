"""A machine's saved state: a snapshot in its data disk that is used once, and what it depends on, beside it.

Loading a snapshot takes the disk back to it. So a snapshot never outlives the moment from which the guest
runs on, whichever way it gets there: it is deleted before the guest's next instruction.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from b2d.drivers.qemu.qmp import Qmp
from b2d.errors import B2dError
from b2d.formats import json_text
from b2d.host.files import is_regular, read_bounded, write_atomic
from b2d.paths import MachinePaths

TAG = "b2d-saved"
DATA_NODE = "data"  # QEMU's block node of the data disk, which takes the state
STATE_TIMEOUT_S = 180.0  # some GiB at the speed of a slow disk
TOOL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Dependencies:
    """A state can only be gone on with by the same QEMU, with the same devices, from the same image."""

    qemu: str  # version
    hardware: list[str]
    image: str  # sha256


@dataclass(frozen=True, slots=True)
class SavedState:
    """There is one when its file of dependencies is there, for that one is written last and removed first."""

    paths: MachinePaths

    def exists(self) -> bool:
        return is_regular(self.paths.qemu_saved)

    def dependencies(self) -> Dependencies | None:
        """What it depends on, None when that cannot be read."""
        try:
            kept = json_text.parse(read_bounded(self.paths.qemu_saved))
            qemu, image = (json_text.text(kept[name]) for name in ("qemu", "image"))
            return Dependencies(qemu, json_text.texts(kept["hardware"]), image)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, qmp: Qmp, dependencies: Dependencies) -> None:
        """Halt the guest and write its state. Raises B2dError; the guest runs on then, nothing is kept."""
        qmp.execute("stop")
        try:
            self._delete_snapshot(qmp)  # one may be left from a save that was cut off
            qmp.run_job("snapshot-save", STATE_TIMEOUT_S, tag=TAG, vmstate=DATA_NODE, devices=[DATA_NODE])
            write_atomic(self.paths.qemu_saved, json.dumps(asdict(dependencies)).encode())
        except (B2dError, OSError) as error:
            with suppress(B2dError):
                self._delete_snapshot(qmp)
            qmp.execute("cont")
            reason = error.message if isinstance(error, B2dError) else error.strerror
            raise B2dError(f"the state could not be saved, the machine runs on: {reason}") from error

    def load(self, qmp: Qmp) -> None:
        """Give the state to a QEMU that has not run yet. Raises B2dError when it does not fit."""
        qmp.run_job("snapshot-load", STATE_TIMEOUT_S, tag=TAG, vmstate=DATA_NODE, devices=[DATA_NODE])

    def forget(self, qmp: Qmp) -> None:
        """Remove it from the disk that a QEMU has open; none there: nothing."""
        self.paths.qemu_saved.unlink(missing_ok=True)
        self._delete_snapshot(qmp)

    def discard(self) -> None:
        """Remove it from a disk that nobody has open; none there: nothing."""
        from b2d.host import processes

        self.paths.qemu_saved.unlink(missing_ok=True)
        # without a snapshot of that name it fails, which is as well: the disk just has to be without it
        processes.run(["qemu-img", "snapshot", "-d", TAG, str(self.paths.disk_qcow2)], timeout_s=TOOL_TIMEOUT_S)

    @staticmethod
    def _delete_snapshot(qmp: Qmp) -> None:
        qmp.run_job("snapshot-delete", STATE_TIMEOUT_S, tag=TAG, devices=[DATA_NODE])
