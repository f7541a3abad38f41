"""Upgrade a machine to another image, and roll back to the old one if it does not start."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from b2d.errors import B2dError, InvalidStateError, MachineLockedError, MachineNotFoundError
from b2d.image import version_label
from b2d.machine.boot_preparation import AUFS_HINT, aufs_refusal, with_trial_image
from b2d.machine.lifecycle import Machine
from b2d.machine_names import command_for
from b2d.machine_store.running_facts import RunningFacts
from b2d.models import OFF_STATES, STARTED_STATES, Image, MachineSpec, MachineState

if TYPE_CHECKING:
    from b2d.guest.readiness import Engine

ASK_S = 60.0  # for Docker to report its version, on an emulated CPU too
KEEP_STOPPED = OFF_STATES | {MachineState.STOPPING}


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """The current image, and whether it changed; `before` is the version of the previous one."""

    image: Image
    changed: bool
    before: str = ""
    state: MachineState = MachineState.RUNNING


@dataclass(frozen=True, slots=True)
class ImageUpgrade:
    """Change the image of one machine. Interrupted at any time, it has the old image, or the new one and a rollback.

    `agree` gets the consequence for a saved state, and raises B2dError to cancel.
    """

    machine: Machine
    agree: Callable[[str], None]

    def upgrade(self, newest: Callable[[str], Image], source: str = "") -> UpgradeResult:
        """Boot the newest image and check that the guest runs it, else roll back. A machine that was off is off again.

        With a `source` the machine follows that one from now on. Raises B2dError: the machine has its old image and
        source then, and is on or off as before.
        """
        spec, driver, _ = self.machine.bound()
        driver.check()  # before minutes are spent on an image
        image = newest(source or spec.source)
        spec, state = self._spec_and_state()
        if image.sha256 == spec.image and not spec.trial and self._has_it(image, state):
            if source not in ("", spec.source):
                with self.machine.lock("upgrade"):
                    self.machine.services.store.write(self.machine.spec()._replace(source=source))
            return UpgradeResult(image, changed=False, state=state)
        self._refuse_aufs(spec, image)
        self.machine.services.images.verify(image)
        self._end(state, image, lambda: self._refuse_aufs(spec, image))
        self._write(lambda now: with_trial_image(now, image, source))
        try:
            self._check(image, self.machine.up())
        except (MachineLockedError, MachineNotFoundError):
            raise
        except B2dError as error:
            raise self._roll_back(spec, image, state, error) from error
        return self._exchanged(spec, image, state)

    def rollback(self) -> UpgradeResult:
        """Return to the previous image; `up` does not use the other one again. A machine that is off stays off."""
        spec, state = self._spec_and_state()
        if not spec.previous:
            raise B2dError(f"{spec.name} has no previous image", hint=command_for("upgrade", spec.name))
        image = self._stored_image(spec.previous)
        if image is None:
            message = f"{spec.name} cannot be rolled back: the image {spec.previous[:12]} is no longer stored"
            raise B2dError(message, hint=command_for("upgrade", spec.name))
        self.machine.services.images.verify(image)
        self._end(state, image)
        self._write(
            lambda now: _with_refusal(now, image.sha256, now.image)._replace(source=now.previous_source or now.source)
        )
        if state not in KEEP_STOPPED:
            self.machine.up()
        return self._exchanged(spec, image, state)

    def _spec_and_state(self) -> tuple[MachineSpec, MachineState]:
        spec, _, state = self.machine.bound()
        return spec, state

    def _has_it(self, image: Image, state: MachineState) -> bool:
        """Tell whether a machine runs the image; one that is off has started with it before."""
        if state not in STARTED_STATES:
            return True
        engine = self._engine()
        return engine is not None and not version_label.version_mismatches(image.version, engine.docker, engine.linux)

    def _engine(self, facts: RunningFacts | None = None) -> "Engine | None":
        """Return what Docker reports about itself, None if it does not answer."""
        from b2d.guest.readiness import engine

        with suppress(InvalidStateError, MachineNotFoundError):
            return engine((facts or self.machine.facts()).engine(self.machine.paths.certs), ASK_S)
        return None

    def _refuse_aufs(self, spec: MachineSpec, image: Image) -> None:
        """Raise B2dError if the image cannot read the machine's AUFS data, as far as that is known."""
        if engine := self._engine():
            lost = engine.storage == "aufs" and not version_label.supports_aufs(image.version)
        else:
            old = self._stored_image(spec.image)
            lost = old is not None and version_label.loses_aufs_data(old.version, image.version)
        if lost:
            raise B2dError(aufs_refusal(spec.name, image.version), hint=AUFS_HINT)

    def _end(self, state: MachineState, image: Image, check: Callable[[], None] = lambda: None) -> None:
        """Stop the machine cleanly. A saved one is resumed first: its state fits only the old image."""
        if state == MachineState.SAVED:
            self.agree(
                f"{self.machine.name} is saved: it would be resumed, shut down cleanly, "
                f"and started with the image {image.version}"
            )
            self.machine.up()
            check()
        self.machine.stop()

    def _write(self, change: Callable[[MachineSpec], MachineSpec]) -> None:
        """Store the changed spec of the machine, which is off.

        Raises InvalidStateError when another process has started it.
        """
        with self.machine.lock("upgrade"):
            spec, state = self._spec_and_state()
            if state not in OFF_STATES:
                raise InvalidStateError(f"{spec.name} is {state}: another process has started it", hint="try again")
            self.machine.services.store.write(change(spec))

    def _check(self, image: Image, facts: RunningFacts) -> None:
        """Raise B2dError unless kernel and engine are those of the image."""
        engine = self._engine(facts)
        if engine is None:
            raise B2dError("Docker does not report its version")
        if wrong := version_label.version_mismatches(image.version, engine.docker, engine.linux):
            raise B2dError(f"it runs {wrong}")

    def _roll_back(self, before: MachineSpec, image: Image, state: MachineState, error: B2dError) -> B2dError:
        """Restore the old image, and start the machine if it was on; return the error that describes the outcome."""
        failed = f"{before.name} did not start with the image {image.version}"
        try:
            self.machine.stop()
        except B2dError:
            self.machine.poweroff()
        old = self._stored_image(self.machine.spec().previous)
        if old is None:
            message = f"{failed}, and has no previous image: {error.message}"
            return B2dError(message, hint=command_for("logs", before.name), details=error.details)
        earlier = before.previous if old.sha256 == before.image else ""
        earlier_source = before.previous_source if earlier else ""
        self._write(
            lambda now: _with_refusal(now, old.sha256, image.sha256, earlier)._replace(
                source=before.source, previous_source=earlier_source
            )
        )
        message = f"{failed}, and was rolled back to {old.version}: {error.message}"
        if state not in KEEP_STOPPED:
            try:
                self.machine.up()
            except B2dError as second:
                message = f"{message}; it does not start with that image either: {second.message}"
                return B2dError(message, hint=command_for("logs", before.name), details=error.details)
        return B2dError(message, hint=command_for("upgrade -v", before.name), details=error.details)

    def _exchanged(self, spec: MachineSpec, image: Image, state: MachineState) -> UpgradeResult:
        if state in KEEP_STOPPED:
            self.machine.stop()
        old = self._stored_image(spec.image)
        before = "" if spec.image == image.sha256 else old.version if old else spec.image[:12]
        return UpgradeResult(image, True, before, self.machine.state())

    def _stored_image(self, sha256: str) -> Image | None:
        try:
            return self.machine.services.images.get(sha256) if sha256 else None
        except B2dError:
            return None


def _with_refusal(spec: MachineSpec, image: str, refused: str, previous: str = "") -> MachineSpec:
    """Return the spec with that image, and with `refused`, which `up` does not boot again."""
    return spec._replace(image=image, previous=previous, previous_source="", refused=refused, trial=False)
