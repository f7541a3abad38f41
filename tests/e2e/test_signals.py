"""An interrupted command leaves the machine as before or after, and the next command continues."""

import signal
import subprocess
import time

import pytest

from b2d.host.polling import wait_until
from tests.e2e.conftest import B2D, Person

pytestmark = pytest.mark.qemu

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
MOMENTS_S = [0.05, 0.15, 0.25, 0.35, 0.5, 0.8]


def start_b2d(person: Person, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start b2d without waiting for it."""
    return subprocess.Popen(
        [str(B2D), *arguments],
        env=person.environment,
        cwd=person.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end_with_signal(process: "subprocess.Popen[bytes]", number: int) -> bytes:
    """Send the signal, assert that b2d ends soon with its exit code or success, and return stderr."""
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number, 0), stderr
    assert b"b2d/__main__.py" not in stderr  # tracebacks only from b2d: Python's own start may end in one
    return stderr


def boot(person: Person) -> str:
    return person.check_output("ssh", "cat /proc/sys/kernel/random/boot_id")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("delay_s", [0.0, 0.2])
def test_save(up: Person, number: int, delay_s: float) -> None:
    before = boot(up)
    process = start_b2d(up, "save")
    wait_until(lambda: not up.paths.env.exists(), condition="the save to begin", timeout_s=30, interval_s=0.005)
    time.sleep(delay_s)
    end_with_signal(process, number)
    assert up.check_output("list").splitlines()[1].split()[1] in ("running", "saved")
    up.check_output("up")
    assert boot(up) == before
    assert up.docker("run", "--rm", "hello", "echo", "there") == "there\n"


def test_stop(up: Person) -> None:
    up.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo 42 >/kept/answer")
    process = start_b2d(up, "stop")
    wait_until(lambda: not up.paths.env.exists(), condition="the stop to begin", timeout_s=30, interval_s=0.005)
    time.sleep(0.3)
    end_with_signal(process, signal.SIGTERM)
    up.check_output("stop")
    assert up.b2d("status").stdout == b"stopped\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_up(up: Person, number: int) -> None:
    """One boot serves both signals: each arrives during the boot."""
    process = start_b2d(up, "up")
    wait_until(lambda: up.b2d("status").stdout == b"running\n", condition="qemu", timeout_s=30)
    end_with_signal(process, number)
    assert not up.paths.env.exists()
    assert up.b2d("shellinit").returncode == 4


def test_an_interrupted_machine_starts_again_with_its_data(up: Person) -> None:
    up.check_output("up")
    assert up.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer") == "42\n"


def test_ignored_signals_stay_ignored(up: Person) -> None:
    """nohup ignores the signal."""
    process = subprocess.Popen(
        ["sh", "-c", f"trap '' HUP TERM; exec {B2D} ssh 'sleep 3; echo end'"],
        env=up.environment,
        cwd=up.folder,
        stdout=subprocess.PIPE,
    )
    time.sleep(1)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == b"end\n"
    assert process.returncode == 0


def test_a_clean_shutdown_needs_no_kill(up: Person) -> None:
    up.docker("run", "-d", "--init", "--name", "sleeper", "hello", "sleep", "100000")
    completed = up.b2d("stop")
    assert completed.returncode == 0
    assert b"power was cut" not in completed.stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_init(person: Person, number: int) -> None:
    for moment_s in MOMENTS_S:
        process = start_b2d(person, "init", "--vm", "other")
        time.sleep(moment_s)
        if process.poll() is None:
            end_with_signal(process, number)
        state = person.b2d("status", "--vm", "other").stdout
        assert state in (b"absent\n", b"stopped\n")
        completed = person.b2d("init", "--vm", "other")
        assert completed.returncode == 0, completed.stderr
        assert person.b2d("status", "--vm", "other").stdout == b"stopped\n"
        person.check_output("delete", "--yes", "--vm", "other")
    assert list(person.home.machines.glob("[!.]*other*")) == []
