"""Upgrade a machine to another image, and roll back to the old one where it does not come up."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from b2d.errors import B2dError, InvalidStateError, MachineLockedError, MachineNotFoundError
from b2d.image import version_label
from b2d.machine.boot_preparation import AUFS_HINT, aufs_refusal, with_trial_image
from b2d.machine.lifecycle import Machine
from b2d.machine_store.store import RunningFacts
from b2d.models import OFF_STATES, STARTED_STATES, Image, MachineSpec, MachineState

if TYPE_CHECKING:
    from b2d.guest.readiness import Engine

ASK_S = 60.0  # for what Docker tells of itself, also where the CPU is emulated
KEEP_STOPPED = OFF_STATES | {MachineState.STOPPING}


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """The image that the machine has now, and whether that changed; `before` is the version that it had."""

    image: Image
    changed: bool
    before: str = ""  # its version
    state: MachineState = MachineState.RUNNING


@dataclass(frozen=True, slots=True)
class ImageUpgrade:
    """One machine whose image is exchanged. Cut off at any moment it has the old one, or the new one and the way back.

    `agree` is told what would become of a saved state, and raises B2dError where that is not to be.
    """

    machine: Machine
    agree: Callable[[str], None]

    def upgrade(self, newest: Callable[[str], Image]) -> UpgradeResult:
        """Boot the newest image and see that the guest runs it, else go back. The machine is off afterwards if it was.

        Raises B2dError: it has its old image then, and runs if it ran.
        """
        spec, driver, _ = self.machine.bound()
        driver.check()  # before minutes are spent on an image
        image = newest(spec.source)
        spec, state = self._spec_and_state()
        if image.sha256 == spec.image and not spec.trial and self._has_it(image, state):
            return UpgradeResult(image, changed=False, state=state)
        self._refuse_aufs(spec, image)
        self.machine.services.images.verify(image)
        self._end(state, image, lambda: self._refuse_aufs(spec, image))
        self._write(lambda now: with_trial_image(now, image))
        try:
            self._check(image, self.machine.up())
        except (MachineLockedError, MachineNotFoundError):
            raise
        except B2dError as error:
            raise self._roll_back(spec, image, state, error) from error
        return self._exchanged(spec, image, state)

    def rollback(self) -> UpgradeResult:
        """Back to the image that the machine had before; `up` takes the other one up no more. Off it stays off."""
        spec, state = self._spec_and_state()
        if not spec.previous:
            raise B2dError(f"{spec.name} has had no other image to go back to", hint="b2d upgrade")
        image = self._stored_image(spec.previous)
        if image is None:
            message = f"{spec.name} cannot go back: the image {spec.previous[:12]} is not kept any more"
            raise B2dError(message, hint="b2d upgrade")
        self.machine.services.images.verify(image)
        self._end(state, image)
        self._write(lambda now: _with_refusal(now, image.sha256, now.image))
        if state not in KEEP_STOPPED:
            self.machine.up()
        return self._exchanged(spec, image, state)

    def _spec_and_state(self) -> tuple[MachineSpec, MachineState]:
        spec, _, state = self.machine.bound()
        return spec, state

    def _has_it(self, image: Image, state: MachineState) -> bool:
        """Whether a machine that is on runs what is promised; one that is off came up with it before."""
        if state not in STARTED_STATES:
            return True
        engine = self._engine()
        return engine is not None and not version_label.version_mismatches(image.version, engine.docker, engine.linux)

    def _engine(self, facts: RunningFacts | None = None) -> "Engine | None":
        """Return what Docker says of itself, None where it does not answer."""
        from b2d.guest.readiness import engine

        with suppress(InvalidStateError, MachineNotFoundError):
            return engine((facts or self.machine.facts()).engine(self.machine.paths.certs), ASK_S)
        return None

    def _refuse_aufs(self, spec: MachineSpec, image: Image) -> None:
        """Raise B2dError where the machine's layers would be lost, as far as it is known."""
        if engine := self._engine():
            lost = engine.storage == "aufs" and not version_label.supports_aufs(image.version)
        else:
            old = self._stored_image(spec.image)
            lost = old is not None and version_label.loses_aufs_data(old.version, image.version)
        if lost:
            raise B2dError(aufs_refusal(spec.name, image.version), hint=AUFS_HINT)

    def _end(self, state: MachineState, image: Image, check: Callable[[], None] = lambda: None) -> None:
        """Stop it cleanly. A saved state is neither thrown away nor left to an image that it is not of."""
        if state == MachineState.SAVED:
            self.agree(
                f"{self.machine.name} is saved: it would go on from there, be stopped cleanly, "
                f"and start with the image {image.version}"
            )
            self.machine.up()
            check()
        self.machine.stop()

    def _write(self, change: Callable[[MachineSpec], MachineSpec]) -> None:
        """Keep what becomes of the spec of the machine, which is off.

        Raises InvalidStateError when somebody started it.
        """
        with self.machine.lock("upgrade"):
            spec, state = self._spec_and_state()
            if state not in OFF_STATES:
                raise InvalidStateError(f"{spec.name} is {state}: somebody else started it meanwhile", hint="try again")
            self.machine.services.store.write(change(spec))

    def _check(self, image: Image, facts: RunningFacts) -> None:
        """Raise B2dError unless kernel and engine are those that the image has: only a boot of it brings both."""
        engine = self._engine(facts)
        if engine is None:
            raise B2dError("Docker does not tell what it runs")
        if wrong := version_label.version_mismatches(image.version, engine.docker, engine.linux):
            raise B2dError(f"it runs {wrong}")

    def _roll_back(self, before: MachineSpec, image: Image, state: MachineState, error: B2dError) -> B2dError:
        """Give the machine its old image back, and start it if it was on; the error that tells all of it."""
        failed = f"{before.name} did not come up with the image {image.version}"
        try:
            self.machine.stop()
        except B2dError:
            self.machine.poweroff()
        old = self._stored_image(self.machine.spec().previous)
        if old is None:
            message = f"{failed}, and has no other to go back to: {error.message}"
            return B2dError(message, hint="b2d logs", details=error.details)
        earlier = before.previous if old.sha256 == before.image else ""
        self._write(lambda now: _with_refusal(now, old.sha256, image.sha256, earlier))
        message = f"{failed}, and is back to {old.version}: {error.message}"
        if state not in KEEP_STOPPED:
            try:
                self.machine.up()
            except B2dError as second:
                message = f"{message}; nor does it come up now: {second.message}"
                return B2dError(message, hint="b2d logs", details=error.details)
        return B2dError(message, hint="b2d upgrade -v", details=error.details)

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
    """Return the spec with that image, and with `refused`, which `up` is not to boot again."""
    return replace(spec, image=image, previous=previous, refused=refused, trial=False)
