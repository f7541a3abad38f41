"""A pid alone proves nothing: only the process that was started is found and ended."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.host import processes
from b2d.host.process_identity import identify
from b2d.models import Endpoint, ProcessIdentity
from b2d.paths import MachinePaths

ENDPOINT = Endpoint("127.0.59.103", 2022, 2376)


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    return MachinePaths(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that belongs to no machine unless the test records it."""
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def record_process(paths: MachinePaths, pid: int, process: ProcessIdentity | None) -> QemuProcess:
    """Record the process as a start does: in QEMU's pid file and b2d's record."""
    paths.qemu_pid.write_text(f"{pid}\n")
    qemu = QemuProcess(paths)
    qemu.record(Launch(ENDPOINT, ["-m", "512M"], "0" * 64, process))
    return qemu


def test_the_started_process_is_found(paths: MachinePaths, sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify(sleeper.pid)
    assert record_process(paths, sleeper.pid, identity).find() == identity


def test_another_process_of_that_pid_is_not_the_machine(paths: MachinePaths, sleeper: subprocess.Popen[bytes]) -> None:
    now = identify(sleeper.pid)
    assert now is not None
    earlier = ProcessIdentity(now.pid, "1", now.boot_id)
    process = record_process(paths, sleeper.pid, earlier)
    assert process.find() is None
    process.end()
    assert sleeper.poll() is None  # it was not killed
    assert not process.has_leftover_pid()


def test_the_pid_of_another_boot_is_not_the_machine(paths: MachinePaths, sleeper: subprocess.Popen[bytes]) -> None:
    now = identify(sleeper.pid)
    assert now is not None
    before = ProcessIdentity(now.pid, now.start_time, "another boot")
    assert record_process(paths, sleeper.pid, before).find() is None


def test_a_pid_without_a_record_is_accepted_only_with_its_control_socket(
    paths: MachinePaths, sleeper: subprocess.Popen[bytes]
) -> None:
    process = record_process(paths, sleeper.pid, None)
    assert process.find() is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(paths.qmp_socket))
        server.listen(1)
        assert process.find() == identify(sleeper.pid)


def test_a_process_that_ignores_its_control_socket_is_signalled(
    paths: MachinePaths, sleeper: subprocess.Popen[bytes]
) -> None:
    process = record_process(paths, sleeper.pid, identify(sleeper.pid))
    process.end()
    assert sleeper.wait(5) != 0
    assert process.find() is None
    assert list(paths.folder.iterdir()) == []


@pytest.mark.parametrize("content", ["", "not a number\n", f"{2**22 + 1}\n", "-1\n", "0\n"])
def test_a_pid_file_without_a_live_process_is_a_leftover(paths: MachinePaths, content: str) -> None:
    paths.qemu_pid.write_text(content)
    assert QemuProcess(paths).find() is None
    assert QemuProcess(paths).has_leftover_pid()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"process": 1}', b'{"process": {"pid": 1}}'])
def test_an_unreadable_record_counts_as_missing(paths: MachinePaths, content: bytes) -> None:
    paths.qemu_record.write_bytes(content)
    assert QemuProcess(paths).launch() is None


def test_reading_the_state_imports_no_slow_library() -> None:
    unwanted = (
        "asyncio",
        "subprocess",
        "ssl",
        "logging",
        "psutil",
        "requests",
        "rich",
        "click",
        "cryptography",
    )
    code = f"import sys, b2d.drivers.qemu.driver; print([name for name in {unwanted} if name in sys.modules])"
    assert processes.check([sys.executable, "-c", code], timeout_s=30) == b"[]\n"


def test_a_record_is_read_back_as_written(paths: MachinePaths) -> None:
    launch = Launch(ENDPOINT, ["-m", "512M"], "0" * 64, identify(os.getpid()))
    QemuProcess(paths).record(launch)
    assert QemuProcess(paths).launch() == launch
    assert json.loads(paths.qemu_record.read_text())["endpoint"]["docker_port"] == 2376
    assert paths.qemu_record.stat().st_mode & 0o777 == 0o600


def test_an_unrecorded_process_is_found_by_its_pid_file(tmp_path: Path) -> None:
    paths = MachinePaths(tmp_path)
    process = QemuProcess(paths)
    sleeps = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "-pidfile", str(paths.qemu_pid)]
    with subprocess.Popen(sleeps, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        assert process.find() is None  # no start was pending
        process.record(Launch(Endpoint("127.0.0.1", 1, 2), [], ""))
        assert process.find() == identify(started.pid)
        assert QemuProcess(MachinePaths(tmp_path / "other")).find() is None
        process.end()
        assert started.wait(20) == -signal.SIGTERM
    assert process.find() is None
