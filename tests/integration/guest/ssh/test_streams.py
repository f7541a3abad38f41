"""The streams of this process, connected to those of a command in the guest."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from b2d.paths import MachinePaths
from tests.support.ssh_server import Sshd

TEN_MB = 10_000_000
SCRIPT = """
import os, sys
from pathlib import Path
from b2d.errors import B2dError
from b2d.paths import MachinePaths
from b2d.models import Endpoint
from b2d.guest.ssh.client import SshGuest
folder, port, *command = sys.argv[1:]
try:
    os._exit(SshGuest(Endpoint("127.0.0.1", int(port), 0), MachinePaths(Path(folder))).shell(*command or [None]))
except B2dError as error:
    os.write(2, error.message.encode())
    os._exit(99)
except BrokenPipeError:
    os._exit(98)
"""


def joined(sshd: Sshd, paths: MachinePaths, *command: str) -> list[str]:
    """Start a process with its streams connected to a command in the guest."""
    return [sys.executable, "-c", SCRIPT, str(paths.folder), str(sshd.port), *command]


def test_streams_are_transferred_byte_by_byte(sshd: Sshd, paths: MachinePaths) -> None:
    content = os.urandom(TEN_MB)
    completed = subprocess.run(
        joined(sshd, paths, "tee /dev/stderr; exit 3"), input=content, capture_output=True, check=False
    )
    assert completed.returncode == 3
    assert hashlib.sha256(completed.stdout).digest() == hashlib.sha256(content).digest()
    assert hashlib.sha256(completed.stderr).digest() == hashlib.sha256(content).digest()


def test_without_a_command_stdin_is_run_as_a_script(sshd: Sshd, paths: MachinePaths) -> None:
    completed = subprocess.run(joined(sshd, paths), input=b"echo $((6*7))\nexit 4\n", capture_output=True, check=False)
    assert (completed.returncode, completed.stdout) == (4, b"42\n")
    assert sshd.terminals == []


def test_it_ends_with_the_command_although_stdin_is_open(sshd: Sshd, paths: MachinePaths) -> None:
    with subprocess.Popen(joined(sshd, paths, "exit 5"), stdin=subprocess.PIPE) as process:
        assert process.wait(20) == 5


def test_a_command_that_does_not_read_its_input_returns_its_own_code(sshd: Sshd, paths: MachinePaths) -> None:
    completed = subprocess.run(
        joined(sshd, paths, "head -c 1; exit 6"), input=bytes(TEN_MB), capture_output=True, check=False
    )
    assert (completed.returncode, completed.stdout, completed.stderr) == (6, b"\0", b"")


@pytest.mark.parametrize("line", ["yes", "yes >&2"])
def test_it_ends_when_its_output_is_closed(sshd: Sshd, paths: MachinePaths, line: str) -> None:
    command = joined(sshd, paths, line)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        read = process.stderr if line.endswith("2") else process.stdout
        assert read.read(2) == b"y\n"
        read.close()
        assert process.wait(20) == 98


def test_a_full_disk_is_named(sshd: Sshd, paths: MachinePaths) -> None:
    with Path("/dev/full").open("wb") as full:
        completed = subprocess.run(joined(sshd, paths, "echo x"), stdout=full, stderr=subprocess.PIPE, check=False)
    assert (completed.returncode, completed.stderr) == (99, b"stdout cannot be written: No space left on device")


def test_a_broken_connection_is_reported_in_one_sentence(sshd: Sshd, paths: MachinePaths) -> None:
    sshd.hangs_up = "output"
    completed = subprocess.run(joined(sshd, paths, "echo some; sleep 9"), capture_output=True, check=False)
    assert completed.stdout == b"some\n"
    assert (completed.returncode, completed.stderr.count(b"\n")) == (99, 0)
    assert completed.stderr.startswith(b"the connection to the guest broke")


def test_messages_of_the_ssh_library_are_not_shown(sshd: Sshd, paths: MachinePaths) -> None:
    sshd.hangs_up = "banner"
    threading.Timer(2, lambda: setattr(sshd, "hangs_up", "")).start()
    completed = subprocess.run(joined(sshd, paths, "echo there"), capture_output=True, check=False)
    assert sshd.connections > 1
    assert (completed.stdout, completed.stderr) == (b"there\n", b"")
