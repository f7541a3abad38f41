"""Run the life of one machine: init, up, stop, save, delete. Independent of hypervisors, terminals and libraries.

Modules that only init and up need are imported there: `b2d status` runs often and must be fast.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from time import time
from typing import TYPE_CHECKING

from b2d.drivers.base import DialsGuest, Driver, MountsFolders
from b2d.errors import InvalidStateError, PortInUseError, SavedStateError
from b2d.guest.base import Guest
from b2d.host.process_identity import is_alive
from b2d.host.signals import signals_deferred
from b2d.host_agent import control
from b2d.machine import folder_sharing, preconditions, recovery
from b2d.machine.base import MachineServices, SpecSource
from b2d.machine.shutdown import request_shutdown, wait_until_off
from b2d.machine_names import command_for
from b2d.machine_store import running_facts
from b2d.machine_store.running_facts import RunningFacts
from b2d.models import OFF_STATES, ON_STATES, STARTED_STATES, SUSPENDED_STATES, MachineSpec, MachineState
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.guest.readiness import Ping
    from b2d.machine.exposure import Exposure

ASK_S = 5.0  # for a Docker that has just answered to answer again
PORT_ATTEMPTS = 10  # as many machines may start at the same moment, each in a home that does not know the others


class Machine:
    """One machine by its name. A verb whose result exists already succeeds; an impossible one raises B2dError."""

    def __init__(self, name: str, services: MachineServices) -> None:
        """Bind the verbs to a machine, which need not exist."""
        self.name = name
        self.services = services
        self._store = services.store
        self._reporter = services.reporter
        self._bound: tuple[MachineSpec, Driver] | None = None

    @property
    def paths(self) -> MachinePaths:
        """The paths of the machine's files."""
        return self._store.home.machine(self.name)

    def exists(self) -> bool:
        """Return whether there is a spec; the state says whether there is a disk."""
        return self._store.read(self.name) is not None

    def spec(self) -> MachineSpec:
        """Return the spec. Raises MachineNotFoundError."""
        return preconditions.require_spec(self._store.read(self.name), self.name)

    def bound(self) -> tuple[MachineSpec, Driver, MachineState]:
        """Return the spec, the driver and the state of a machine with its disk. Raises MachineNotFoundError."""
        spec = self.spec()
        driver = self.driver(spec)
        return spec, driver, self._state_of(driver)

    def state(self) -> MachineState:
        """Return the state that the hypervisor reports now."""
        spec = self._store.read(self.name)
        return MachineState.ABSENT if spec is None else self.driver(spec).state()

    def init(self, source: SpecSource) -> bool:
        """Create the machine that `source` describes; False when there is one already."""
        with self.lock("init"):
            return self._create(source)

    def up(self, source: SpecSource | None = None) -> RunningFacts:
        """Start the machine from any state, and wait until Docker answers.

        A missing machine is created first, as `source` describes it. When this returns, the host agent serves, the
        docker client has the machine's context, and exposures have been reported.
        """
        with self.lock("up"):
            if source is not None:
                self._create(source)
            return self._up()

    def stop(self) -> bool:
        """Press the power button, and cut the power if the guest does not react; return False when it was off already.

        A saved machine stays saved.
        """
        with self.lock("stop"):
            return self._stop()

    def poweroff(self) -> bool:
        """Cut the power; return False when it was off already."""
        with self.lock("poweroff"):
            return self._cut_power()

    def restart(self) -> RunningFacts:
        """Stop the machine, and start it again."""
        with self.lock("restart"):
            self._stop()
            return self._up()

    def reset(self) -> RunningFacts:
        """Cut the power, and start the machine again."""
        with self.lock("reset"):
            self._running()
            self._cut_power()
            return self._up()

    def save(self) -> bool:
        """Write the machine's state to disk and end it; return False when it was saved already."""
        with self.lock("save"):
            driver = self.driver(self.spec())
            state = self._state_of(driver)
            if state == MachineState.SAVED:
                return False
            if state not in (MachineState.RUNNING, MachineState.PAUSED):
                raise InvalidStateError(
                    f"{self.name} is {state}: there is nothing to save", hint=command_for("up", self.name)
                )
            with (
                self._reporter.step(f"saving {self.name}"),
                folder_sharing.folders_unmounted(self._folders(driver)),
                self._without_env_file(driver),
            ):
                control.stop(self.paths)
                driver.save()
            return True

    def delete(self) -> None:
        """Remove the machine with its disk, keys, certificates, Docker context and login item; images are kept.

        Does nothing if there is no machine.
        """
        from b2d.docker import context
        from b2d.host.autostart import items

        with self.lock("delete"), signals_deferred():
            specs = recovery.specs_for_removal(self._store, self.name)
            for spec in specs:
                if self.paths.folder.is_symlink():  # nothing behind a link is removed, but its machine is stopped
                    self.driver(spec).kill()
                else:
                    self._store.remove_env(self.name)
                    self.driver(spec).delete()
            for remark in self._store.remove(self.name):
                self._reporter.warn(remark)
            context.remove_context(self.paths)
            items.stale_items(self.paths, self._store.home)

    def facts(self) -> RunningFacts:
        """Return where the running machine is reached. Raises InvalidStateError when it does not run."""
        self._running()
        control.ensure_running(self._store, self.name)
        facts = self._store.read_env(self.name)
        if facts is None:
            raise InvalidStateError(f"{self.name} is not up yet", hint=command_for("up", self.name))
        return facts

    def guest(self) -> Guest:
        """Return the guest. Raises InvalidStateError when the machine is not running."""
        driver = self._running()
        control.ensure_running(self._store, self.name)
        dial = driver.dial if isinstance(driver, DialsGuest) else None
        return self.services.guest(driver.endpoint(), self.paths, dial)

    def screenshot(self) -> bytes:
        """Return the machine's screen as a PNG. Raises InvalidStateError when it does not run."""
        driver = self._running()
        return driver.screenshot()

    def answers(self, timeout_s: float) -> "Ping | None":
        """Ping Docker; return its answer, or None."""
        spec = self.spec()
        return self._ping(self.driver(spec), spec, timeout_s)

    def exposures(self, *, booted: bool) -> "list[Exposure]":
        """Return the exposures of the machine: if `booted`, of the running one, else of its next boot."""
        from b2d.host_agent import peer
        from b2d.machine import boot_preparation, exposure, foreign_guest

        spec, access = self.spec(), self.services.access
        if booted:
            access = boot_preparation.access_of(self.paths, access)
        else:
            spec = boot_preparation.with_current_hardware(spec)
        foreign = foreign_guest.is_foreign(spec, self.services.images)
        around = exposure.Environment(self.driver(spec), access, booted, foreign, tells_users=peer.can_identify)
        return exposure.find_exposures(spec, around)

    def driver(self, spec: MachineSpec) -> Driver:
        """Return the driver for `spec`; it is created again only when the spec changes."""
        if self._bound is None or self._bound[0] != spec:
            self._bound = spec, self.services.driver(spec)
        return self._bound[1]

    def _create(self, source: SpecSource) -> bool:
        from b2d.guest import seed
        from b2d.machine import exposure
        from b2d.machine.boot_preparation import ensure_ssh_keys, store_new_spec

        mended = recovery.restore_spec(self._store, self.name, self._reporter)
        if self.state() != MachineState.ABSENT:
            return mended
        spec = source.new_machine_spec()
        self.driver(spec).check()  # before minutes are spent on an image
        spec = source.with_image(spec)
        with signals_deferred():
            payload = seed.payload(ensure_ssh_keys(self.paths))
            # the spec first: a disk without a spec would belong to no machine, and prevent its creation
            spec = store_new_spec(spec, self._store)
            driver = self.driver(spec)
            if driver.state() == MachineState.ABSENT:  # a disk that lost its spec is used with its data
                driver.create(payload)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            self._reporter.note(exposure.made_by_root(spec))
        return True

    def _up(self) -> RunningFacts:
        from b2d.machine.boot_monitor import UnexpectedPowerOffError

        try:
            facts = self._boot_and_wait()
        except (UnexpectedPowerOffError, SavedStateError):
            facts = self._boot_and_wait()
        self._serve(facts)
        return facts

    def _serve(self, facts: RunningFacts) -> None:
        """Wait for the agent, create Docker's context, and report refused ports and exposures."""
        from b2d.docker import context
        from b2d.machine import exposure

        refusals = control.wait_until_serving(self._store, self.name)
        context.update_context(self.paths, facts.docker, self._reporter)
        for refusal in refusals or ():
            self._reporter.warn(f"{refusal.sentence(self.name)}; try: {command_for('restart', self.name)}")
        if refusals is None and facts.process is not None and is_alive(facts.process):
            trouble = f"the agent of {self.name} is not ready yet: its socket and SSH may not respond"
            self._reporter.warn(f"{trouble}; try: {command_for('status', self.name)}")
        exposure.report(self.exposures(booted=True), self._reporter)

    def _stop(self) -> bool:
        driver = self.driver(self.spec())
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
                    request_shutdown(driver)
            wait_until_off(driver, self.name, self.services.stop_wait_s, self._reporter)
        return True

    def _cut_power(self) -> bool:
        driver = self.driver(self.spec())
        was_on = driver.state() in ON_STATES
        with self._without_env_file(driver):
            driver.kill()
        return was_on

    def _boot_and_wait(self) -> RunningFacts:
        from b2d.machine import foreign_guest
        from b2d.machine.clock_sync import sync_guest_clock

        spec = self.spec()
        driver = self.driver(spec)
        before = self._state_of(driver)
        if before == MachineState.STOPPING:
            wait_until_off(driver, self.name, self.services.stop_wait_s, self._reporter)
        elif before == MachineState.CRASHED:
            driver.kill()  # remaining processes may still use its ports
            before = driver.state()  # it may have crashed while it resumed a saved state
        if before not in STARTED_STATES:
            spec = self._start(spec, before)
            driver = self.driver(spec)
        answer = self._await_docker(driver, spec, before)
        if before in SUSPENDED_STATES:  # its clock has stood still since
            sync_guest_clock(answer, lambda: self._ping(driver, spec, ASK_S), driver, self.guest, self._reporter, time)
        folder_sharing.mount_folders(self._folders(driver), self._reporter)
        foreign_guest.report_limits(self.services, spec, self.paths, answer.api_version)
        return self._record_running(driver, spec)

    def _folders(self, driver: Driver) -> "MountsFolders | None":
        """Return what mounts the shared folders; None where the guest itself always does."""
        from b2d.machine import foreign_folders, foreign_guest

        spec = self.spec()
        if foreign_guest.is_foreign(spec, self.services.images):
            return foreign_folders.ForeignFolders(
                spec, driver, lambda: foreign_guest.reach(self.services, driver, self.paths)
            )
        return driver if isinstance(driver, MountsFolders) else None

    def _running(self) -> Driver:
        driver = self.driver(self.spec())
        state = self._state_of(driver)
        if state not in STARTED_STATES:
            raise InvalidStateError(f"{self.name} is {state}, not running", hint=command_for("up", self.name))
        return driver

    def _state_of(self, driver: Driver) -> MachineState:
        """Return the state of a machine that has a spec. Raises MachineNotFoundError when its disk is gone."""
        return preconditions.require_disk(driver.state(), self.name)

    @contextmanager
    def _without_env_file(self, driver: Driver) -> Iterator[None]:
        """Remove the env file while the machine is ended in the block; restore it if the machine runs on."""
        facts = self._store.read_env(self.name)
        self._store.remove_env(self.name)
        try:
            yield
        except BaseException:
            if facts is not None and driver.state() in STARTED_STATES:
                self._store.write_env(self.name, facts)
            raise

    def lock(self, verb: str) -> AbstractContextManager[None]:
        """Hold the machine for `verb` in the block. Raises MachineLockedError."""
        return self._store.lock(self.name, verb)

    def _prepare_boot(self, spec: MachineSpec, state: MachineState) -> MachineSpec:
        """Provide what the machine needs before it starts, and return its spec, which is stored if it changed."""
        from b2d.machine import boot_preparation

        self._store.remove_env(self.name)
        if state == MachineState.PAUSED:
            return spec
        wanted = spec
        if state != MachineState.SAVED:  # the saved state fits only the image that it was booted from
            wanted = boot_preparation.with_current_hardware(
                boot_preparation.current_image(wanted, self.services.images, self._reporter)
            )
        wanted = boot_preparation.shared_folders(wanted, self._store.home.root, state, self._reporter)
        wanted = boot_preparation.free_ports(wanted, self._store.neighbours(self.name), self._reporter)
        network_files = boot_preparation.network(
            wanted, self.paths, self.services.guest_network(wanted), state, self._reporter
        )
        access = self.services.access
        if state == MachineState.SAVED:  # it resumes with the settings that it was saved with
            access = boot_preparation.access_of(self.paths, access)
        boot_preparation.credentials(wanted, self.paths, access, network_files)
        if wanted != spec:
            self._store.write(wanted)
        return wanted

    def _start(self, spec: MachineSpec, before: MachineState) -> MachineSpec:
        """Start the machine, with other ports when another program takes its own meanwhile; return its spec."""
        from b2d.machine.template import make_template

        attempts = PORT_ATTEMPTS
        while True:
            spec = self._prepare_boot(spec, before)
            driver = self.driver(spec)
            if attempts == PORT_ATTEMPTS:
                driver.check()
                for limitation in driver.limitations():
                    self._reporter.note(limitation)
            if before in OFF_STATES:
                make_template(driver, self._reporter, self.services.wait_s / 2)
            try:
                driver.start()
                return spec
            except PortInUseError:
                attempts -= 1
                if not attempts:
                    raise

    def _await_docker(self, driver: Driver, spec: MachineSpec, before: MachineState) -> "Ping":
        from b2d.machine import boot_monitor, foreign_guest

        set_up = partial(foreign_guest.meet, self.services, driver, spec, self.paths)
        attempts = boot_monitor.Attempts(partial(self._ping, driver, spec), set_up)
        timeouts = boot_monitor.timeouts_after(before)
        with (
            boot_monitor.screenshot_on_failure(driver, self.paths.screen),
            boot_monitor.confirm_image_on_success(spec, self._store),
        ):
            return boot_monitor.await_docker(
                self.name, driver, attempts, self._reporter, self.services.wait_s, timeouts
            )

    def _record_running(self, driver: Driver, spec: MachineSpec) -> RunningFacts:
        """Record where the machine is reached, for shellinit and ip."""
        facts = running_facts.of_machine(spec, self.paths, driver.endpoint(), driver.process())
        self._store.write_env(self.name, facts)
        return facts

    def _ping(self, driver: Driver, spec: MachineSpec, timeout_s: float) -> "Ping | None":
        from b2d.machine.boot_monitor import check_docker

        return check_docker(driver, self.paths.certs if spec.tls or spec.guarded else None, timeout_s)
