"""Measure and compact a machine's data disk, in the guest and on this host."""

import shlex
from dataclasses import dataclass

from b2d.errors import B2dError, InvalidStateError
from b2d.formats import numbers
from b2d.machine.lifecycle import Machine
from b2d.machine_names import command_for
from b2d.models import OFF_STATES, MachineState
from b2d.reporting.base import Reporter

HERE = "/var/lib/boot2docker/.."  # on the data disk, wherever that is mounted
KIB_LIMIT = 1 << 44  # KiB; larger numbers from a guest are invalid
ASK_S = 60.0
FREE_S = 3600.0  # for a guest to trim or fill all its free space
MEASURE = f"df -kP {HERE}"
TRIM = f"sync && sudo fstrim {HERE}"  # recently deleted files are free once that is on the disk


@dataclass(frozen=True, slots=True)
class FileSystemUsage:
    """The guest's file system on the data disk, in bytes."""

    size: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """The space that a machine's data takes, in bytes."""

    size: int  # as the guest sees the disk
    room: int  # on this host, with snapshots
    files: FileSystemUsage | None  # None: the machine is not running, or its guest does not report it


@dataclass(frozen=True, slots=True)
class Compacted:
    """The space used on this host, before and after; not `done` if the machine must be stopped for the rest."""

    before: int
    after: int
    done: bool


@dataclass(frozen=True, slots=True)
class DataDisk:
    """The data disk of one machine."""

    machine: Machine

    def use(self) -> DiskUsage:
        """Return the disk's current usage."""
        _, driver, state = self.machine.bound()
        files = self._files() if state == MachineState.RUNNING else None
        return DiskUsage(driver.disk_mib() << 20, driver.disk_room(), files)

    def compact(self) -> Compacted:
        """Return unused space to this host. Raises B2dError; all data is kept in any case."""
        with self.machine.lock("disk compact"):
            _, driver, state = self.machine.bound()
            before, done = driver.disk_room(), True
            if state in OFF_STATES:
                with self._reporter.step("compacting the disk"):
                    driver.compact_disk()
            elif state != MachineState.RUNNING:
                raise InvalidStateError(
                    f"{self.machine.name} is {state}: only the disk of a running or stopped machine can be compacted",
                    hint=command_for("up", self.machine.name),
                )
            elif driver.trims:
                with self._reporter.step("discarding free space in the guest"):
                    self._run(TRIM)
            else:
                done = False
                with self._reporter.step("filling free space in the guest with zeros"):
                    self._run(zero_fill_command(HERE))
            return Compacted(before, driver.disk_room(), done)

    @property
    def _reporter(self) -> Reporter:
        return self.machine.services.reporter

    def _files(self) -> FileSystemUsage | None:
        try:
            output = self.machine.guest().run(MEASURE, ASK_S).stdout.decode(errors="replace")
            kibibytes = [numbers.parse(word, KIB_LIMIT) for word in output.splitlines()[-1].split()[1:4]]
            return FileSystemUsage(*(kib << 10 for kib in kibibytes))
        except (B2dError, ValueError, TypeError, IndexError):
            self._reporter.warn("the guest does not report its disk usage")
            return None

    def _run(self, command: str) -> None:
        done = self.machine.guest().run(command, FREE_S)
        if done.exit_code != 0:
            output = done.stderr.decode(errors="replace").strip()
            raise B2dError(
                f"the command failed in the guest: {output.splitlines()[-1] if output else command}", details=output
            )


def zero_fill_command(folder: str) -> str:
    """Return a command that fills nine tenths of the free space with zeros, in a file that ends with its writer.

    The space is measured for root: ext4 reserves 5 % for it, which may contain deleted data, and up to 16 MiB for
    itself, so a small disk may be full earlier. df counts neither as available.
    """
    script = (
        "free() { df -kP . | tail -n 1 | (read -r _ size used _ && echo $((size - used))); } && "
        f"cd -P {folder} && exec 3>.b2d-zeros && rm .b2d-zeros && "
        "{ dd if=/dev/zero bs=1M count=$(($(free) / 1024 * 9 / 10)) >&3 || [ $(free) -lt 32768 ]; } && sync"
    )
    return f"sudo sh -c {shlex.quote(script)}"
