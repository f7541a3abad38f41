"""A machine's saved state: a snapshot in its data disk that is used once, with its dependencies in a file.

Loading a snapshot reverts the disk to it. So a snapshot never outlives the moment from which the guest runs again: it
is deleted before the guest's next instruction, on every path.
"""

import json
from contextlib import suppress
from typing import NamedTuple

from b2d.drivers.qemu.qmp import Qmp
from b2d.errors import B2dError
from b2d.formats import json_text
from b2d.host.files import is_regular, read_bounded, write_atomic
from b2d.paths import MachinePaths

TAG = "b2d-saved"
DATA_NODE = "data"  # QEMU's block node of the data disk, which stores the state
STATE_TIMEOUT_S = 180.0  # some GiB at the speed of a slow disk
TOOL_TIMEOUT_S = 60.0


class Dependencies(NamedTuple):
    """The dependencies of a state: only the same QEMU, with the same devices and image, can resume from it."""

    qemu: str  # version
    hardware: list[str]
    image: str  # sha256


class SavedState:
    """A saved state. It exists when its file of dependencies does, which is written last and removed first."""

    def __init__(self, paths: MachinePaths) -> None:
        """Look at the machine of these files."""
        self.paths = paths

    def exists(self) -> bool:
        """Tell whether there is a saved state."""
        return is_regular(self.paths.qemu_saved)

    def dependencies(self) -> Dependencies | None:
        """Return its dependencies, None when they cannot be read."""
        try:
            document = json_text.parse(read_bounded(self.paths.qemu_saved))
            qemu, image = (json_text.text(document[name]) for name in ("qemu", "image"))
            return Dependencies(qemu, json_text.texts(document["hardware"]), image)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, qmp: Qmp, dependencies: Dependencies) -> None:
        """Halt the guest and write its state. Raises B2dError; the guest continues then, and nothing is kept."""
        qmp.execute("stop")
        try:
            self._delete_snapshot(qmp)  # an interrupted save may have left one
            qmp.run_job("snapshot-save", STATE_TIMEOUT_S, tag=TAG, vmstate=DATA_NODE, devices=[DATA_NODE])
            write_atomic(self.paths.qemu_saved, json.dumps(dependencies._asdict()).encode())
        except (B2dError, OSError) as error:
            with suppress(B2dError):
                self._delete_snapshot(qmp)
            qmp.execute("cont")
            reason = error.message if isinstance(error, B2dError) else error.strerror
            raise B2dError(f"the state could not be saved, and the machine continues to run: {reason}") from error

    def load(self, qmp: Qmp) -> None:
        """Load the state into a QEMU that has not run yet. Raises B2dError when it does not fit."""
        qmp.run_job("snapshot-load", STATE_TIMEOUT_S, tag=TAG, vmstate=DATA_NODE, devices=[DATA_NODE])

    def forget(self, qmp: Qmp) -> None:
        """Remove the state, if any, from the disk that a QEMU has open."""
        self.paths.qemu_saved.unlink(missing_ok=True)
        self._delete_snapshot(qmp)

    def discard(self) -> None:
        """Remove the state, if any, from a disk that no process has open."""
        from b2d.host import processes

        self.paths.qemu_saved.unlink(missing_ok=True)
        # it fails when there is no such snapshot, which is fine
        processes.run(["qemu-img", "snapshot", "-d", TAG, str(self.paths.disk_qcow2)], timeout_s=TOOL_TIMEOUT_S)

    @staticmethod
    def _delete_snapshot(qmp: Qmp) -> None:
        qmp.run_job("snapshot-delete", STATE_TIMEOUT_S, tag=TAG, devices=[DATA_NODE])
