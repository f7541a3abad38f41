"""A machine of VirtualBox is booted with what its spec says now, or goes on from its saved state."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers.virtualbox import boot_config, hardware, machine_state
from b2d.drivers.virtualbox.errors import VirtualBoxError
from b2d.errors import B2dError, HypervisorError, SavedStateError
from b2d.models import HARDWARE, MachineSpec
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox
    from b2d.drivers.virtualbox.host_only_network import SecondCard
    from b2d.drivers.virtualbox.machine import VirtualBoxMachine

# the last: its serial port was a file of a folder that lies somewhere else now
STATE_DOES_NOT_FIT = ("VERR_SSM", "saved state", "failed to create the raw output file")


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one machine, which is off or saved."""

    spec: MachineSpec
    paths: MachinePaths
    machine: "VirtualBoxMachine"

    def boot(self, box: "VirtualBox", iso: Path, card: "SecondCard") -> None:
        """Give it what the spec says now, and the image, and a seed; then start it."""
        for path in (iso, self.paths.disk_vdi):
            if not path.is_file():
                raise B2dError(f"{path} is gone, {self.spec.name} cannot start without it")
        boot_config.write_files(self.paths)
        self.machine.edit(
            [
                *boot_config.settings(self.spec, self.paths, self.machine),
                *boot_config.host_loopback(self.paths, box.api),
                *card.steps(),
            ],
            [(hardware.ISO_PORT, hardware.DVD, iso), (hardware.SEED_PORT, hardware.DVD, self.paths.virtualbox_seed)],
        )
        box.forget_media([iso.parent, self.paths.folder], [iso, self.paths.virtualbox_seed, self.paths.disk_vdi])
        self._launch()

    def resumes(self) -> bool:
        """Go on from the saved state; False when it does not fit, and is no more."""
        self.machine.edit(boot_config.forwards(self.spec, self.machine))
        try:
            self._launch()
        except HypervisorError as error:
            if not any(sign in error.details for sign in STATE_DOES_NOT_FIT):
                raise
            self.machine.discard_saved()
            if self.spec.hardware < HARDWARE:
                raise SavedStateError(
                    f"the saved state of {self.spec.name} does not fit any more", hint="b2d up"
                ) from error
            return False
        return True

    def _launch(self) -> None:
        self.paths.virtualbox_log.unlink(missing_ok=True)
        try:
            self.machine.launch()
        except VirtualBoxError as refused:
            said = machine_state.last_error(self.paths.virtualbox_log) or refused.message
            raise HypervisorError(
                f"VirtualBox does not start {self.spec.name}: {said.splitlines()[0]}",
                hint="b2d doctor",
                details=f"{refused.details}\n{said}",
            ) from refused
