"""Process identities, read from real processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from b2d.host import process_identity
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify, is_alive
from b2d.models import ProcessIdentity
from tests.support.fakes import BEYOND_ANY_PID

ODD_NAME = "a) Z (b 1 2"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process with an unusual name."""
    program = tmp_path / ODD_NAME
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    yield process
    process.kill()
    process.wait()


def is_zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_identity_of_a_process_does_not_change(sleeper: "subprocess.Popen[bytes]") -> None:
    first = identify(sleeper.pid)
    assert first is not None
    assert first.pid == sleeper.pid
    assert first.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()  # as the fast path reads it
    assert identify(sleeper.pid) == first
    assert is_alive(first)
    assert identify(os.getpid()) != first


def test_an_unused_pid_has_no_identity() -> None:
    assert identify(BEYOND_ANY_PID) is None
    assert not is_alive(ProcessIdentity(BEYOND_ANY_PID, "1", "1"))


def test_the_same_pid_with_another_start_time_is_another_process(sleeper: "subprocess.Popen[bytes]") -> None:
    now = identify(sleeper.pid)
    assert now is not None
    assert not is_alive(now._replace(start_time=str(int(now.start_time) - 1)))


def test_the_same_pid_and_start_time_of_another_boot_is_another_process(sleeper: "subprocess.Popen[bytes]") -> None:
    now = identify(sleeper.pid)
    assert now is not None
    assert not is_alive(now._replace(boot_id="11111111-2222-3333-4444-555555555555"))


@pytest.mark.parametrize("look", [identify, process_identity._from_psutil], ids=["proc", "psutil"])
def test_an_ended_process_has_no_identity_before_and_after_it_is_reaped(
    sleeper: "subprocess.Popen[bytes]", look: Callable[[int], ProcessIdentity | None]
) -> None:
    before = look(sleeper.pid)
    assert before is not None
    sleeper.kill()
    wait_until(lambda: is_zombie(sleeper.pid), condition="the zombie", timeout_s=10)
    assert look(sleeper.pid) is None
    sleeper.wait()
    assert look(sleeper.pid) is None


LAST_THREAD = """
import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(60)).start()
print("ready", flush=True)
libc = ctypes.CDLL(None)
libc.pthread_exit.argtypes = [ctypes.c_void_p]
libc.pthread_exit(None)  # the main thread alone
"""


def test_a_process_lives_until_its_last_thread_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", LAST_THREAD], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wait_until(lambda: is_zombie(process.pid), condition="the main thread's end", timeout_s=10)
        identity = identify(process.pid)
        process.kill()
    assert identity is not None


def test_without_proc_the_identity_does_not_change_with_the_clock(
    sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """macOS shifts its boot time when the clock is set, Windows computes it at each query."""
    monkeypatch.setattr(process_identity, "BOOT_ID", tmp_path / "none")
    first = identify(sleeper.pid)
    assert first is not None
    monkeypatch.setattr(psutil, "boot_time", lambda: 1.0)
    assert identify(sleeper.pid) == first
    assert is_alive(first)
    assert not is_alive(first._replace(start_time="1.00"))
