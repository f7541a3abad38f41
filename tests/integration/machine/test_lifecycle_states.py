"""Invariants under any sequence of verbs, crashes, reboots, kills, full disks and damaged files.

hypothesis searches for failing sequences and shrinks them.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from b2d.errors import B2dError, InvalidStateError, MachineNotFoundError
from b2d.guest.readiness import Ping
from b2d.machine.lifecycle import Machine
from b2d.machine.reconfigure import apply_changes
from b2d.models import ON_STATES, STARTED_STATES, MachineSpec, MachineState
from b2d.paths import Home
from tests.support import fault_injection
from tests.support.fake_machine import Box, Interrupter
from tests.support.fakes import ALIVE

ABSENT, STOPPED, STARTING, RUNNING, PAUSED, SAVED, STOPPING, CRASHED = MachineState
DATA = b"what a person has on their disk"
SPEC = ["machine.json"]
VERBS = st.sampled_from(["init", "up", "stop", "poweroff", "save", "restart", "reset", "delete"])
MOMENTS = st.integers(1, 60)


class Life(RuleBasedStateMachine):
    """The life of one machine."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="b2d-states-"))
        self.box = Box(Home(self.folder / "home"), listens=False, stop_wait_s=0.02)
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr("b2d.machine.boot_monitor.ping", self.ping)
        self.memory_mib = 512
        self.ended_outside = False  # since the last verb
        self.disk: object = None  # the disk with the user's data

    def teardown(self) -> None:
        self.patches.undo()
        self.box.close()
        shutil.rmtree(self.folder)

    def ping(self, *_: object) -> Ping | None:
        return Ping("1.45", None) if self.true_state() in ALIVE else None

    def true_state(self) -> MachineState:
        machine = self.box.hypervisor.machines.get("box")
        return ABSENT if machine is None else machine.state

    @property
    def machine(self) -> Machine:
        return self.box.machine()

    def readable(self) -> bool:
        try:
            return self.machine.exists()
        except B2dError:
            return False

    def new_machine_spec(self) -> MachineSpec:
        return self.box.spec(memory_mib=self.memory_mib)

    def with_image(self, spec: MachineSpec) -> MachineSpec:
        return spec

    @initialize(state=st.sampled_from([ABSENT, STOPPED, RUNNING, SAVED, CRASHED]))
    def begin(self, state: MachineState) -> None:
        self.box.in_state(state)
        self.ended_outside = state == CRASHED
        self.mark()

    # the verbs

    @rule()
    def init(self) -> None:
        before, known = self.true_state(), self.readable()
        created = self.machine.init(self)
        assert created is (before == ABSENT or not known)
        assert self.true_state() == (STOPPED if before == ABSENT else before)
        self.mark()

    @rule()
    def up(self) -> None:
        """Check that up always succeeds."""
        self.machine.init(self)
        self.mark()
        facts = self.machine.up()
        assert self.true_state() == RUNNING
        assert self.machine.facts() == facts
        self.ended_outside = False

    @rule(verb=st.sampled_from(["stop", "poweroff", "save", "restart", "reset"]))
    def verb(self, verb: str) -> None:
        before, known = self.true_state(), self.readable()
        outcomes: dict[str, Callable[[], object]] = {
            "stop": lambda: before in ON_STATES,
            "poweroff": lambda: before in ON_STATES,
            "save": lambda: False if before == SAVED else True if before in (RUNNING, PAUSED) else InvalidStateError,
            "restart": lambda: True,
            "reset": lambda: True if before in STARTED_STATES else InvalidStateError,
        }
        wanted = outcomes[verb]()
        try:
            answer: object = getattr(self.machine, verb)()
            answer = answer if isinstance(answer, bool) else True
        except B2dError as error:
            assert error.hint
            answer = type(error)
            if not known or before == ABSENT:
                return
        assert known
        if before != ABSENT:
            assert answer == wanted, (verb, before)
            self.assert_ended(verb, before)
        self.ended_outside = self.ended_outside and not isinstance(answer, bool)

    def assert_ended(self, verb: str, before: MachineState) -> None:
        after = self.true_state()
        if verb in ("restart", "reset") and before in STARTED_STATES:
            assert after == RUNNING
        elif verb in ("stop", "poweroff"):
            assert after == (SAVED if before == SAVED else STOPPED)
        elif verb == "save" and before in (RUNNING, PAUSED):
            assert after == SAVED

    @rule()
    def delete(self) -> None:
        self.machine.delete()
        assert self.true_state() == ABSENT
        assert not self.box.paths.folder.exists()
        self.mark()
        self.ended_outside = False

    @precondition(lambda self: self.readable() and self.true_state() in (STOPPED, CRASHED))
    @rule(memory_mib=st.sampled_from([512, 640]), more=st.integers(0, 3))
    def set(self, memory_mib: int, more: int) -> None:
        disk = self.box.hypervisor.machines["box"].disk_mib + more
        apply_changes(self.box.machine(), {"memory": memory_mib, "disk": disk})
        self.memory_mib = memory_mib
        assert self.machine.spec() == self.machine.spec()._replace(memory_mib=memory_mib, disk_mib=disk)

    # interrupted verbs

    def any_verb(self, verb: str, machine: Machine) -> None:
        with suppress(MachineNotFoundError, InvalidStateError):
            if verb == "up":
                machine.init(self)
            machine.init(self) if verb == "init" else getattr(machine, verb)()

    @rule(verb=VERBS, at=MOMENTS)
    def interrupt(self, verb: str, at: int) -> None:
        """Interrupt a verb with Ctrl-C."""
        with suppress(KeyboardInterrupt, B2dError):
            self.any_verb(verb, self.box.machine(Interrupter(at)))
        self.mark()

    @rule(verb=VERBS, at=MOMENTS)
    def run_without_room(self, verb: str, at: int) -> None:
        with suppress(B2dError):
            fault_injection.run_failing(self.box.home.root, at, lambda: self.any_verb(verb, self.machine))
        self.mark()

    # events from outside

    @precondition(lambda self: self.true_state() in ALIVE)
    @rule(state=st.sampled_from([CRASHED, STOPPED, PAUSED, STOPPING]))
    def change_outside(self, state: MachineState) -> None:
        """Change the state from outside: a kill, a reboot, the guest's own shutdown, or a pause by the user."""
        if state in (CRASHED, STOPPED):
            self.box.driver(self.new_machine_spec()).crash()
            self.box.hypervisor.machines["box"].state = state
        else:
            self.box.hypervisor.machines["box"].state = state
        self.ended_outside = True

    @precondition(lambda self: self.box.paths.folder.exists())
    @rule(
        names=st.sampled_from([SPEC, [*SPEC, "machine.json.copy"], ["env"], ["known_hosts", "seed.img"]]),
        content=st.sampled_from([None, b"", b"{", b"[]", b"\xff" * 20]),
    )
    def damage(self, names: list[str], content: bytes | None) -> None:
        for path in (self.box.paths.folder / name for name in names):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        self.box.paths.disk_qcow2.touch()  # the fake has no file: it reports a machine without a spec

    def mark(self) -> None:
        """Write data to a new disk."""
        for machine in self.box.hypervisor.machines.values():
            assert self.disk in (None, machine), "another disk was made over the first"
            machine.payload = DATA
        self.disk = self.box.hypervisor.machines.get("box")

    # invariants

    @invariant()
    def its_state_is_what_the_hypervisor_says(self) -> None:
        if self.readable():
            assert self.machine.state() == self.true_state()

    @invariant()
    def its_data_is_there(self) -> None:
        for machine in self.box.hypervisor.machines.values():
            assert machine.payload == DATA

    @invariant()
    def who_is_pointed_at_it_reaches_it(self) -> None:
        if self.box.store.read_env("box") is not None and not self.ended_outside:
            assert self.true_state() in ALIVE

    @invariant()
    def nothing_is_held(self) -> None:
        with self.box.store.lock("box", "look"):
            pass

    @invariant()
    def it_is_listed(self) -> None:
        if self.true_state() != ABSENT:
            assert "box" in self.box.store.names() + self.box.store.lost()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=70,
    stateful_step_count=30,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=list(HealthCheck),
)
