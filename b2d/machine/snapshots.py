"""Create, list, restore and delete snapshots of a machine's data disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

from b2d import machine_names
from b2d.drivers.base import Driver
from b2d.errors import B2dError, ConfigError, InvalidStateError
from b2d.machine.lifecycle import Machine
from b2d.models import OFF_STATES, ON_STATES, MachineSpec, MachineState, Snapshot
from b2d.reporting.base import Reporter

SYNC_S = 60.0


@dataclass(frozen=True, slots=True)
class SnapshotCommands:
    """The snapshots of one machine. Each method does all or nothing; it may raise B2dError."""

    machine: Machine

    def all(self) -> list[Snapshot]:
        """Return the snapshots, the oldest first."""
        return self.machine.bound()[1].snapshots()

    def create(self, name: str) -> Snapshot:
        """Take a snapshot of the disk of a running or stopped machine. Raises ConfigError for an invalid name."""
        if not machine_names.is_valid(name):
            raise ConfigError(f"{name!r} is not a valid snapshot name", hint=machine_names.HINT)
        with self._held() as (_, driver, state):
            if any(snapshot.name.lower() == name.lower() for snapshot in driver.snapshots()):
                raise B2dError(f"{self.machine.name} has a snapshot {name} already", hint="give it another name")
            if state not in OFF_STATES | {MachineState.RUNNING}:
                raise InvalidStateError(
                    f"{self.machine.name} is {state}: only a running or stopped machine can have a snapshot taken",
                    hint=machine_names.command_for("up", self.machine.name),
                )
            with self._reporter.step(f"taking the snapshot {name}"):
                if state == MachineState.RUNNING:
                    self._write_out()
                driver.take_snapshot(name)
            return self._by_name(driver, name)

    def restore(self, name: str, agree: Callable[[str], None]) -> Snapshot:
        """Restore the disk. `agree` gets the consequence, and raises B2dError to cancel."""
        before = self.machine.bound()[2]
        self._refuse_in_use(before)
        snapshot = self._by_name(self.machine.bound()[1], name)
        lost = " and its saved state" if before == MachineState.SAVED else ""
        change = f"the disk of {self.machine.name} would be restored from {name}"
        agree(f"{change}: data written since then{lost} would be lost")
        with self._held() as (spec, driver, state):
            self._refuse_in_use(state)
            if state != before:
                raise InvalidStateError(
                    f"{self.machine.name} is {state} now: another process has used it", hint="try again"
                )
            with self._reporter.step(f"restoring the snapshot {name}"):
                driver.restore_snapshot(self._by_name(driver, name).name)
            if (size_mib := driver.disk_mib()) != spec.disk_mib:
                self._reporter.note(f"the disk has {size_mib} MiB, as at the time of the snapshot")
                self.machine.services.store.write(spec._replace(disk_mib=size_mib))
        return snapshot

    def delete(self, name: str) -> Snapshot:
        """Delete a snapshot; the disk and the other snapshots are unchanged."""
        with self._held() as (_, driver, _):
            snapshot = self._by_name(driver, name)
            with self._reporter.step(f"deleting the snapshot {name}"):
                driver.delete_snapshot(snapshot.name)
            return snapshot

    @contextmanager
    def _held(self) -> Iterator[tuple[MachineSpec, Driver, MachineState]]:
        with self.machine.lock("snapshot"):
            yield self.machine.bound()

    @property
    def _reporter(self) -> Reporter:
        return self.machine.services.reporter

    def _by_name(self, driver: Driver, name: str) -> Snapshot:
        snapshots = {snapshot.name: snapshot for snapshot in driver.snapshots()}
        if name in snapshots:
            return snapshots[name]
        near = get_close_matches(name, snapshots, n=1)
        suggestion = f": did you mean {near[0]!r}?" if near else ""
        known = f" It has {', '.join(snapshots)}" if snapshots else " It has none"
        raise B2dError(
            f"{self.machine.name} has no snapshot {name!r}{suggestion or '.'}{known}",
            hint=machine_names.command_for("snapshot list", self.machine.name),
        )

    def _refuse_in_use(self, state: MachineState) -> None:
        if state in ON_STATES:
            raise InvalidStateError(
                f"{self.machine.name} is {state}, and its disk is in use",
                hint=machine_names.command_for("stop", self.machine.name),
            )

    def _write_out(self) -> None:
        """Have the guest write its cached data to the disk."""
        try:
            self.machine.guest().run("sync", SYNC_S)
        except B2dError as error:
            message = "the guest did not write its cached data to the disk, so the snapshot is as after a power cut"
            self._reporter.warn(f"{message}: {error.message}")
