"""b2d or QEMU is killed at any moment, or two commands run at once: the next command continues, with all data."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from b2d.host.polling import wait_until
from b2d.host.process_identity import identify, is_alive
from b2d.machine_store.store import LOCK_WAIT_S
from tests.e2e.conftest import Person
from tests.e2e.test_signals import start_b2d
from tests.support.timing import not_waiting_for

pytestmark = pytest.mark.qemu

MOMENTS = random.Random(2014)  # reproducible


def numbers(person: Person, then_write: int | None = None) -> list[int]:
    """Return the numbers on the disk, before another one is written durably."""
    script = "ls /kept" if then_write is None else f"ls /kept && echo {then_write} >/kept/{then_write} && sync"
    stdout = person.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", script)
    return sorted(int(word) for word in stdout.split())


def run_and_kill(person: Person, line: str, after_s: float) -> None:
    process = start_b2d(person, *line.split())
    time.sleep(after_s)
    process.kill()
    _, stderr = process.communicate(timeout=60)
    assert b"Traceback" not in stderr


def assert_usable(person: Person, number: int) -> None:
    """Assert that the usual commands work."""
    assert person.b2d("status").returncode in (0, 4)
    assert "boot2docker-vm" in person.check_output("list")
    person.check_output("up")
    assert numbers(person, then_write=number) == list(range(number))


def is_stopped(person: Person) -> bool:
    """Return True when the machine is stopped; a pending stop may end under the next command."""
    return person.b2d("status").stdout == b"stopped\n"


@pytest.fixture(scope="module")
def numbered(up: Person) -> Person:
    assert numbers(up, then_write=0) == []
    return up


def test_the_next_command_succeeds_after_b2d_was_killed(numbered: Person) -> None:
    # the killed command, the state before it, and the latest moment
    moments = (
        ("save", "up", 1.2),
        ("save", "up", 1.2),
        ("up", "save", 1.5),
        ("up", "save", 1.5),
        ("stop", "up", 2.0),
        ("up", "stop", 8.0),
        ("set disk=21000", "stop", 0.8),
    )
    for number, (line, first, within_s) in enumerate(moments, 1):
        numbered.check_output(first)
        run_and_kill(numbered, line, MOMENTS.uniform(0.15, within_s))
        if line == "stop" and not numbered.paths.env.exists():
            wait_until(lambda: is_stopped(numbered), condition="the guest's end", timeout_s=60, interval_s=0.2)
        assert_usable(numbered, number)
    numbered.check_output("stop")
    subprocess.run(["qemu-img", "check", str(numbered.paths.disk_qcow2)], check=True, capture_output=True)
    numbered.check_output("set", "disk=21000")
    assert json.loads(numbered.check_output("info"))["has"]["disk_mib"] == 21000


def kill_qemu(person: Person) -> Callable[[], bool]:
    """Kill QEMU and return True once it has ended."""
    process = identify(int(person.paths.qemu_pid.read_text()))
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    return lambda: not is_alive(process)


@pytest.mark.parametrize("line", ["save", "stop"])
def test_up_succeeds_after_qemu_was_killed_during_a_command(numbered: Person, line: str) -> None:
    numbered.check_output("up")
    before = numbers(numbered)
    process = start_b2d(numbered, line)
    wait_until(lambda: not numbered.paths.env.exists(), condition="it to begin", timeout_s=30, interval_s=0.005)
    wait_until(kill_qemu(numbered), condition="QEMU's death", timeout_s=10)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (0, 1, 4, 6), stderr
    assert b"Traceback" not in stderr
    assert b"bug" not in stderr
    numbered.check_output("up")
    assert numbers(numbered) == before


@pytest.mark.parametrize(("first", "second"), [("save", "up"), ("stop", "save"), ("up", "stop"), ("up", "up")])
def test_two_commands_at_once_end_in_a_valid_state(numbered: Person, first: str, second: str) -> None:
    before = numbered.b2d("status").stdout
    pair = [start_b2d(numbered, first), start_b2d(numbered, second)]
    readers = ("status", "list", "info", "logs")
    with not_waiting_for(len(readers) * LOCK_WAIT_S):
        for verb in readers:
            numbered.b2d(verb)
    for process in pair:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode in (0, 4, 8), (before, stderr)
        assert b"Traceback" not in stderr
        assert process.returncode != 8 or b"is locked by `b2d " in stderr
    assert numbered.b2d("status").stdout in (b"running\n", b"saved\n", b"stopped\n")


def test_delete_succeeds_after_a_killed_delete(numbered: Person) -> None:
    numbered.check_output("up")
    run_and_kill(numbered, "delete --yes", MOMENTS.uniform(0.2, 0.6))
    numbered.check_output("list")
    numbered.check_output("delete", "--yes")
    assert not numbered.paths.folder.exists()
    assert numbered.b2d("status").returncode == 3
