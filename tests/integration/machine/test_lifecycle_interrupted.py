"""An interrupted command leaves a machine that the next command can continue with."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from b2d.errors import MachineLockedError
from b2d.host.polling import wait_until
from b2d.machine.lifecycle import Machine
from b2d.models import MachineState
from tests.support.fake_machine import Box, Interrupter, Source
from tests.support.paths import ROOT
from tests.support.timing import not_waiting_for

PLENTY = 300  # more moments than any command has


def made_and_up(box: Box, machine: Machine) -> None:
    machine.init(Source(box.spec))
    machine.up()


def moments(box: Box, verb: Callable[[Box, Machine], object], before: MachineState) -> int:
    """Return the number of moments at which a verb can be interrupted."""
    strikes = Interrupter(at=PLENTY)
    box.in_state(before)
    verb(box, box.machine(strikes))
    box.machine().delete()
    return strikes.passed


@pytest.mark.parametrize("before", [MachineState.ABSENT, MachineState.SAVED])
def test_init_and_up_can_be_interrupted_at_every_point(box: Box, before: MachineState) -> None:
    box.hypervisor.script = ["b2d: 1.0 kernel", "b2d: 2.0 docker"]
    total = moments(box, made_and_up, before)
    assert 20 < total < PLENTY
    for at in range(1, total + 1):
        box.in_state(before)
        with suppress(KeyboardInterrupt):
            made_and_up(box, box.machine(Interrupter(at)))
        machine = box.hypervisor.machines.get("box")
        if box.paths.env.exists() and before == MachineState.ABSENT:
            assert box.machine().facts() == box.store.read_env("box")
        made_and_up(box, box.machine())
        assert box.machine().answers(2) is not None, at
        assert machine is None or box.hypervisor.machines["box"] is machine, at  # the disk was not created again
        box.machine().delete()
        assert not box.paths.folder.exists()


@pytest.mark.parametrize("verb", ["stop", "save", "poweroff", "delete"])
def test_verbs_that_end_a_machine_can_be_interrupted_at_every_point(box: Box, verb: str) -> None:
    def ended(_box: Box, machine: Machine) -> None:
        getattr(machine, verb)()

    total = moments(box, ended, MachineState.RUNNING)
    assert 5 < total < PLENTY
    for at in range(1, total + 1):
        box.in_state(MachineState.RUNNING)
        with suppress(KeyboardInterrupt):
            ended(box, box.machine(Interrupter(at)))
        if box.paths.env.exists():
            assert box.machine().state() == MachineState.RUNNING, at
        if box.machine().state() != MachineState.ABSENT:
            getattr(box.machine(), verb)()
        box.machine().delete()
        assert not box.paths.folder.exists()
        assert box.engines == {}


def test_a_disk_without_a_spec_is_adopted_with_its_data(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    stored = box.hypervisor.machines["box"]
    box.paths.spec.unlink()
    assert machine.init(Source(box.spec)) is True
    assert box.hypervisor.machines["box"] is stored
    machine.up()


def test_concurrent_commands_run_one_after_the_other(box: Box) -> None:
    box.lock_wait_s = 10
    results = []
    threads = [
        threading.Thread(target=lambda: results.append((box.machine().init(Source(box.spec)), box.machine().up())))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(created for created, _ in results) == [False, True]
    assert results[0][1] == results[1][1]
    assert box.calls.count("create") == box.calls.count("start") == 1


@pytest.mark.parametrize("verb", ["up", "stop", "poweroff", "save", "delete", "restart", "reset"])
def test_a_locked_machine_is_busy_and_the_holder_is_named(box: Box, verb: str) -> None:
    machine = box.in_state(MachineState.RUNNING)
    with box.store.lock("box", "up"), pytest.raises(MachineLockedError) as caught:
        getattr(machine, verb)()
    assert caught.value.exit_code == 8
    assert "`b2d up`" in caught.value.message
    assert f"pid {os.getpid()}" in caught.value.message
    assert box.calls == []
    assert machine.facts() is not None


def test_queries_do_not_wait_for_the_lock(box: Box) -> None:
    machine = box.in_state(MachineState.RUNNING)
    with box.store.lock("box", "stop"):
        assert machine.state() == MachineState.RUNNING
        assert machine.facts() is not None
        assert machine.guest() is not None
        assert machine.answers(2) is not None


HOLDER = """
import sys, time
from pathlib import Path
from b2d.paths import Home
from b2d.machine_store.store import MachineStore
with MachineStore(Home(Path(sys.argv[1]))).lock("box", "up"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(box: Box) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(box.home.root)], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_holder_releases_the_lock(box: Box, number: signal.Signals) -> None:
    machine = box.in_state(MachineState.RUNNING)
    process = holder(box)
    with pytest.raises(MachineLockedError, match=f"pid {process.pid}"):
        machine.stop()
    process.send_signal(number)
    process.communicate()
    assert machine.stop() is True


def test_a_waiting_command_continues_when_the_holder_ends(box: Box) -> None:
    machine = box.in_state(MachineState.RUNNING)
    process = holder(box)
    box.lock_wait_s = 20
    threading.Timer(0.3, process.kill).start()
    with not_waiting_for(20):
        assert box.machine().stop() is True
    process.communicate()
    wait_until(lambda: machine.state() == MachineState.STOPPED, condition="the end", timeout_s=1)
