"""The verbs: what can be done to one machine. Nothing here knows a hypervisor, a terminal or a library.

What only init and up need is loaded by them: `b2d status` is asked often, and is to be quick.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import TYPE_CHECKING

from b2d.drivers.base import DialsGuest, Driver, HasProcess, ReportsLimitations, Screen
from b2d.errors import InvalidStateError, SavedStateError, WaitTimeoutError
from b2d.guest.base import Dial, Guest
from b2d.host.polling import wait_until
from b2d.host.signals import signals_deferred
from b2d.host_agent import control
from b2d.image.base import ImageLookup
from b2d.machine import folder_sharing, preconditions, recovery
from b2d.machine_store.store import MachineStore, RunningFacts, running_facts
from b2d.models import (
    OFF_STATES,
    ON_STATES,
    STARTED_STATES,
    SUSPENDED_STATES,
    Access,
    Endpoint,
    MachineSpec,
    MachineState,
)
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter

if TYPE_CHECKING:
    from b2d.guest.readiness import Ping

ASK_S = 5.0  # for one question to a Docker that answered a moment ago


@dataclass(frozen=True, slots=True)
class MachineDependencies:
    """What a machine is made of; app.py puts it together."""

    store: MachineStore
    images: Callable[[], ImageLookup]
    driver: Callable[[MachineSpec], Driver]
    guest: Callable[[Endpoint, MachinePaths, Dial | None], Guest]
    reporter: Reporter
    wait_s: float  # that up may take
    stop_wait_s: float  # that the guest has to power itself off
    access: Access = field(default_factory=Access)
    network: Callable[[MachineSpec], Mapping[str, bytes]] = lambda _: {}  # what the guest is to be told of it


class Machine:
    """One machine by its name. A verb that is already fulfilled is fine; one that cannot be raises B2dError."""

    def __init__(self, name: str, parts: MachineDependencies) -> None:
        self.name = name
        self._parts = parts
        self._store = parts.store
        self._reporter = parts.reporter
        self._driver = parts.driver

    @property
    def paths(self) -> MachinePaths:
        return self._store.home.machine(self.name)

    def exists(self) -> bool:
        """True when there is a spec; whether there is more, the state tells."""
        return self._store.read(self.name) is not None

    def spec(self) -> MachineSpec:
        """What the machine should look like. Raises MachineNotFoundError."""
        return preconditions.require_spec(self._store.read(self.name), self.name)

    def state(self) -> MachineState:
        """What the hypervisor says now."""
        spec = self._store.read(self.name)
        return MachineState.ABSENT if spec is None else self._driver(spec).state()

    def init(self, wished: Callable[[], MachineSpec]) -> bool:
        """Make the machine as `wished` describes it; False when there is one already, which stays as it is."""
        from b2d.guest import seed
        from b2d.machine.boot_preparation import ensure_ssh_keys, store_new_spec

        with self._lock("init"):
            mended = recovery.restore_spec(self._store, self.name, self._reporter)
            if self.state() != MachineState.ABSENT:
                return mended
            spec = wished()
            self._driver(spec).check()
            with signals_deferred():
                payload = seed.payload(ensure_ssh_keys(self.paths))
                # the spec first: a disk without one would be nobody's, and in the way
                driver = self._driver(store_new_spec(spec, self._store))
                if driver.state() == MachineState.ABSENT:  # a disk that lost its spec is taken up with its data
                    driver.create(payload)
            return True

    def up(self) -> RunningFacts:
        """Bring the machine to the point where Docker answers, from whatever state it is in."""
        from b2d.machine.boot_monitor import UnexpectedPowerOffError

        with self._lock("up"):
            try:
                return self._boot_and_wait()
            except (UnexpectedPowerOffError, SavedStateError):
                return self._boot_and_wait()

    def stop(self) -> bool:
        """Power off by the button, and by force when the guest does not listen; False when it was off already.

        A saved machine is off: it stays saved.
        """
        with self._lock("stop"):
            driver = self._driver(self.spec())
            state = driver.state()
            if state in OFF_STATES or state == MachineState.SAVED:
                self._store.remove_env(self.name)
                if state == MachineState.CRASHED:
                    driver.kill()
                return False
            with self._reporter.step(f"stopping {self.name}"):
                with self._without_env_file(driver):
                    control.stop(self.paths)
                    if state != MachineState.STOPPING:
                        driver.stop()
                self._wait_off(driver)
            return True

    def poweroff(self) -> bool:
        """Cut the power; False when it was off already."""
        with self._lock("poweroff"):
            driver = self._driver(self.spec())
            was_on = driver.state() in ON_STATES
            with self._without_env_file(driver):
                driver.kill()
            return was_on

    def restart(self) -> RunningFacts:
        """Stop, and up again."""
        self.stop()
        return self.up()

    def reset(self) -> RunningFacts:
        """Cut the power, and up again."""
        self._running()
        self.poweroff()
        return self.up()

    def save(self) -> bool:
        """Write the machine's state to disk and end it; False when it was saved already."""
        with self._lock("save"):
            driver = self._driver(self.spec())
            state = self._state_of(driver)
            if state == MachineState.SAVED:
                return False
            if state not in (MachineState.RUNNING, MachineState.PAUSED):
                raise InvalidStateError(f"{self.name} is {state}: there is nothing to save", hint="b2d up")
            with (
                self._reporter.step(f"saving {self.name}"),
                folder_sharing.folders_unmounted(driver),
                self._without_env_file(driver),
            ):
                control.stop(self.paths)
                driver.save()
            return True

    def delete(self) -> None:
        """Remove the machine with its disk, keys and certificates. Absent: nothing. Images stay."""
        with self._lock("delete"), signals_deferred():
            specs = recovery.specs_for_removal(self._store, self.name)
            for spec in specs:
                if self.paths.folder.is_symlink():  # nothing behind a link is removed, but nothing runs on either
                    self._driver(spec).kill()
                else:
                    self._store.remove_env(self.name)
                    self._driver(spec).delete()
            for remark in self._store.remove(self.name):
                self._reporter.warn(remark)

    def facts(self) -> RunningFacts:
        """Where the running machine is reached. Raises InvalidStateError when it does not run."""
        self._running()
        facts = self._store.read_env(self.name)
        if facts is None:
            raise InvalidStateError(f"{self.name} is not up yet", hint="b2d up")
        return facts

    def guest(self) -> Guest:
        """The Linux inside. Raises InvalidStateError when it does not run."""
        driver = self._running()
        dial = driver.dial if isinstance(driver, DialsGuest) else None
        return self._parts.guest(driver.endpoint(), self.paths, dial)

    def screenshot(self) -> bytes:
        """What is on the machine's screen, as a PNG. Raises InvalidStateError when it does not run."""
        driver = self._running()
        if not isinstance(driver, Screen):
            raise InvalidStateError(f"{self.name} has no screen", hint="b2d logs")
        return driver.screenshot()

    def answers(self, timeout_s: float) -> "Ping | None":
        """Docker's answer now, or None."""
        spec = self.spec()
        return self._ping(self._driver(spec), spec, timeout_s)

    def _boot_and_wait(self) -> RunningFacts:
        from b2d.machine.clock_sync import sync_guest_clock

        spec = self.spec()
        driver = self._driver(spec)
        before = self._state_of(driver)
        if before == MachineState.STOPPING:
            self._wait_off(driver)
        elif before == MachineState.CRASHED:
            driver.kill()  # what is left of it may still have its ports
            before = driver.state()  # it may have been about to go on from a saved state
        if before not in STARTED_STATES:
            spec = self._prepare_boot(spec, before)
            driver = self._driver(spec)
            self._start(driver)
        answer = self._await_docker(driver, spec, before)
        if before in SUSPENDED_STATES:  # it has missed what happened since
            sync_guest_clock(answer, lambda: self._ping(driver, spec, ASK_S), driver, self.guest, self._reporter, time)
        folder_sharing.mount_folders(driver, self._reporter)
        return self._record_running(driver, spec)

    def _running(self) -> Driver:
        driver = self._driver(self.spec())
        state = self._state_of(driver)
        if state not in STARTED_STATES:
            raise InvalidStateError(f"{self.name} is {state}, not running", hint="b2d up")
        return driver

    def _state_of(self, driver: Driver) -> MachineState:
        """What the hypervisor says of a machine that has a spec.

        Raises MachineNotFoundError when that is all it has.
        """
        return preconditions.require_disk(driver.state(), self.name)

    @contextmanager
    def _without_env_file(self, driver: Driver) -> Iterator[None]:
        """Nobody is pointed at a machine that is ended in the block; if it runs on, they are again."""
        facts = self._store.read_env(self.name)
        self._store.remove_env(self.name)
        try:
            yield
        except BaseException:
            if facts is not None and driver.state() in STARTED_STATES:
                self._store.write_env(self.name, facts)
            raise

    def _lock(self, verb: str) -> AbstractContextManager[None]:
        return self._store.lock(self.name, verb)

    def _prepare_boot(self, spec: MachineSpec, state: MachineState) -> MachineSpec:
        """What the machine must have before it starts; what changed in the spec is kept."""
        from b2d.machine import boot_preparation

        self._store.remove_env(self.name)
        if state == MachineState.PAUSED:
            return spec
        wanted = spec
        if state != MachineState.SAVED:  # the state on disk is of the image that it was booted from
            wanted = boot_preparation.with_current_hardware(
                boot_preparation.current_image(wanted, self._parts.images(), self._reporter)
            )
        wanted = boot_preparation.shared_folders(wanted, self._store.home.root, state, self._reporter)
        wanted = boot_preparation.free_ports(wanted, self._store.neighbours(self.name), self._reporter)
        told = boot_preparation.network(wanted, self.paths, self._parts.network(wanted), state, self._reporter)
        access = self._parts.access
        if state == MachineState.SAVED:  # it goes on with what it was saved with
            access = boot_preparation.access_of(self.paths, access)
        boot_preparation.credentials(wanted, self.paths, access, told)
        if wanted != spec:
            self._store.write(wanted)
        return wanted

    def _start(self, driver: Driver) -> None:
        driver.check()
        if isinstance(driver, ReportsLimitations):
            for compromise in driver.limitations():
                self._reporter.note(compromise)
        driver.start()

    def _await_docker(self, driver: Driver, spec: MachineSpec, before: MachineState) -> "Ping":
        from b2d.machine.boot_monitor import (
            BOOT_TIMEOUTS,
            RESUME_TIMEOUTS,
            RUNNING_TIMEOUTS,
            await_docker,
            confirm_image_on_success,
            screenshot_on_failure,
        )

        patience = (
            RESUME_TIMEOUTS
            if before in SUSPENDED_STATES
            else RUNNING_TIMEOUTS
            if before == MachineState.RUNNING
            else BOOT_TIMEOUTS
        )
        ask = partial(self._ping, driver, spec)
        with screenshot_on_failure(driver, self.paths.screen), confirm_image_on_success(spec, self._store):
            return await_docker(self.name, driver, ask, self._reporter, self._parts.wait_s, patience)

    def _record_running(self, driver: Driver, spec: MachineSpec) -> RunningFacts:
        """Where the machine is, for shellinit and ip."""
        process = driver.process() if isinstance(driver, HasProcess) else None
        facts = running_facts(spec, self.paths, driver.endpoint(), process)
        self._store.write_env(self.name, facts)
        return facts

    def _ping(self, driver: Driver, spec: MachineSpec, timeout_s: float) -> "Ping | None":
        from b2d.machine.boot_monitor import check_docker

        return check_docker(driver, self.paths.certs if spec.tls or spec.guarded else None, timeout_s)

    def _wait_off(self, driver: Driver) -> None:
        """Wait until the machine is off; cut the power when it does not come to that by itself."""
        patience_s = self._parts.stop_wait_s
        try:
            wait_until(
                lambda: driver.state() in OFF_STATES, condition=f"{self.name} to power off", timeout_s=patience_s
            )
        except WaitTimeoutError:
            self._reporter.warn(f"{self.name} did not power off within {patience_s:.0f} s: its power was cut")
        driver.kill()  # also forgets a process that has ended
