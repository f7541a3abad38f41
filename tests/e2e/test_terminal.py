"""A terminal in the machine: output, keys, and the state of the terminal afterwards."""

import fcntl
import hashlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

from b2d.host.polling import wait_until
from tests.e2e.conftest import B2D, Person
from tests.support.timing import not_waiting_for

pytestmark = pytest.mark.qemu

PROMPT = b"$ "
LIMIT_S = 60.0
CTRL_C, CTRL_D = b"\x03", b"\x04"


@dataclass
class Terminal:
    """A pseudo-terminal with one program on it."""

    screen: int
    line: int  # the program's end, held open to read its modes
    process: "subprocess.Popen[bytes]"
    shown: bytes = b""

    def send(self, keys: bytes) -> None:
        os.write(self.screen, keys)

    def expect(self, pattern: bytes) -> re.Match[bytes]:
        """Wait for the pattern on the screen and consume all up to it."""
        end = time.monotonic() + LIMIT_S
        while (match := re.search(pattern, self.shown, re.DOTALL)) is None:
            assert time.monotonic() < end, f"not shown: {pattern!r} in {self.shown!r}"
            self.read_available(0.1)
        self.shown = self.shown[match.end() :]
        return match

    def read_available(self, timeout_s: float) -> None:
        if select.select([self.screen], [], [], timeout_s)[0]:
            self.shown += os.read(self.screen, 1 << 16)

    def wait_for_exit(self) -> int:
        """Read until the program has ended and return its exit code."""
        end = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it did not end: {self.shown!r}"
            self.read_available(0.05)
        self.read_available(0)
        return self.process.returncode

    def modes(self) -> list[object]:
        return termios.tcgetattr(self.line)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.line, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def terminal(person: Person, *arguments: str, columns: int = 91, rows: int = 33) -> Iterator[Terminal]:
    """Start b2d on a pseudo-terminal that is its controlling terminal."""
    screen, line = pty.openpty()
    environment = person.environment | {"TERM": "xterm-256color"}
    shell = Terminal(screen, line, subprocess.Popen(["true"]))
    shell.process.wait()
    shell.resize(columns, rows)
    shell.process = subprocess.Popen(
        [str(B2D), *arguments],
        stdin=line,
        stdout=line,
        stderr=line,
        env=environment,
        cwd=person.folder,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  this test starts no threads
    )
    try:
        yield shell
    finally:
        with suppress(ProcessLookupError):
            shell.process.kill()
        shell.process.wait()
        os.close(screen)
        os.close(line)


def test_a_shell_has_the_size_and_type_of_this_terminal(up: Person) -> None:
    with terminal(up, "ssh") as shell:
        shell.expect(re.escape(PROMPT))
        shell.send(b"stty size; echo $TERM; tty\r")
        shell.expect(rb"33 91\r\nxterm-256color\r\n/dev/pts/\d+")
        shell.resize(120, 40)  # the kernel sends SIGWINCH
        shell.send(b"sleep 1; stty size\r")
        shell.expect(rb"\n40 120\r\n")
        shell.send(b"exit\r")
        assert shell.wait_for_exit() == 0


def test_ctrl_c_interrupts_the_remote_program_and_ctrl_d_ends_the_shell(up: Person) -> None:
    with terminal(up, "ssh") as shell:
        shell.expect(re.escape(PROMPT))
        shell.send(b"sleep 1000\r")
        shell.expect(rb"sleep 1000\r\n")
        time.sleep(0.5)
        shell.send(CTRL_C)
        shell.expect(re.escape(PROMPT))
        shell.send(b"echo code $?; (exit 7)\r")
        shell.expect(rb"\ncode 130\r\n.*" + re.escape(PROMPT))
        shell.send(CTRL_D)
        assert shell.wait_for_exit() == 7


def test_every_byte_is_transferred_unchanged(up: Person) -> None:
    """All 256 bytes, without those that terminal line discipline changes at a line break."""
    octal = "".join(f"\\{number:03o}" for number in range(256) if number != 10)
    with terminal(up, "ssh", "-t", f"printf '<<{octal}>>'") as shell:
        shown = shell.expect(rb"<<(.*)>>").group(1)
        assert shown == bytes(number for number in range(256) if number != 10)
        assert shell.wait_for_exit() == 0


def test_large_output_is_complete(up: Person) -> None:
    with terminal(up, "ssh", "-t", "seq 1 100000; exit 3") as shell:
        code = shell.wait_for_exit()
        while select.select([shell.screen], [], [], 0)[0]:
            shell.read_available(0)
    assert code == 3
    assert shell.shown == b"".join(b"%d\r\n" % number for number in range(1, 100001))


PASTED = b"".join(b"%010d-" % number * 5 + b"\r" for number in range(4000))  # more than any buffer in between holds


def paste(shell: Terminal) -> None:
    """Write all data as fast as it is accepted while reading the output."""
    rest = memoryview(PASTED)
    while rest:
        readable, writable, _ = select.select([shell.screen], [shell.screen], [], LIMIT_S)
        assert readable or writable
        if readable:
            shell.read_available(0)
        else:
            rest = rest[os.write(shell.screen, rest[:512]) :]


def test_text_pasted_into_an_editor_arrives_completely_while_output_returns(up: Person) -> None:
    """The program ends after a last key: a terminal may lose output of its last moment (docs/decisions/limits.md)."""
    command = f"stty raw -echo; echo go; head -c {len(PASTED)} | tee /dev/stderr | md5sum; head -c 1"
    with terminal(up, "ssh", "-t", command) as shell:
        shell.expect(rb"go\n")
        paste(shell)
        wanted = hashlib.md5(PASTED).hexdigest().encode()
        assert shell.expect(rb"([0-9a-f]{32})").group(1) == wanted
        shell.send(b"x")
        assert shell.wait_for_exit() == 0


@pytest.mark.parametrize("echo", ["-echo", "echo"])
def test_text_pasted_by_lines_arrives_completely(up: Person, echo: str) -> None:
    """The lines arrive; Linux drops echo that is not read in time (docs/decisions/limits.md)."""
    with terminal(up, "ssh", "-t", f"stty {echo}; echo go; md5sum >/tmp/pasted") as shell:
        shell.expect(rb"go\r\n")
        paste(shell)
        shell.send(CTRL_D)
        assert shell.wait_for_exit() == 0
    lines = PASTED.replace(b"\r", b"\n")
    assert up.check_output("ssh", "cat /tmp/pasted").split() == [hashlib.md5(lines).hexdigest(), "-"]


def test_a_command_gets_a_terminal_on_request(up: Person) -> None:
    with terminal(
        up, "ssh", "-t", "docker", "run", "--rm", "-it", "hello", "sh", "-c", "tty; stty size; exit 9"
    ) as shell:
        shell.expect(rb"/dev/pts/0\r\n33 91\r\n")
        assert shell.wait_for_exit() == 9
    with terminal(up, "ssh", "tty") as shell:
        shell.expect(rb"not a tty")
        assert shell.wait_for_exit() == 1


def test_without_a_terminal_on_stdin_the_command_gets_none_and_that_is_reported(up: Person) -> None:
    completed = up.b2d("ssh", "-t", "tty; exit 3", stdin=b"")
    assert (completed.returncode, completed.stdout) == (3, b"not a tty\n")
    assert b"not a terminal" in completed.stderr


def test_options_of_ssh_are_refused(up: Person) -> None:
    completed = up.b2d("ssh", "-L", "8000:localhost:8000")
    assert completed.returncode == 2
    assert b"-L" in completed.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_terminal_modes_are_restored_after_a_signal(up: Person, number: int, code: int) -> None:
    with terminal(up, "ssh") as shell:
        before = shell.modes()
        shell.expect(re.escape(PROMPT))
        assert shell.modes() != before
        shell.process.send_signal(number)
        assert shell.wait_for_exit() == code
        assert shell.modes() == before


def test_terminal_modes_are_restored_after_the_shell(up: Person) -> None:
    with terminal(up, "ssh") as shell:
        before = shell.modes()
        shell.expect(re.escape(PROMPT))
        shell.send(b"exit 5\r")
        assert shell.wait_for_exit() == 5
        assert shell.modes() == before


def test_a_background_program_does_not_delay_the_end(up: Person) -> None:
    with not_waiting_for(60):
        assert up.check_output("ssh", "sleep 60 & echo begun") == "begun\n"
        with terminal(up, "ssh") as shell:
            shell.expect(re.escape(PROMPT))
            shell.send(b"sleep 60 &\r")
            shell.send(b"exit\r")
            assert shell.wait_for_exit() == 0


def test_a_closed_pipe_ends_the_command_quietly(up: Person) -> None:
    for script in ("b2d ssh yes | head -1", "b2d ssh 'yes >&2' 2>&1 >/dev/null | head -1"):
        completed = up.sh(script, limit_s=60)
        assert (completed.stdout, completed.stderr) == (b"y\n", b"")


def test_closed_standard_streams_do_no_harm(up: Person) -> None:
    assert up.sh("b2d ssh 'cat; echo end' <&-", limit_s=60).stdout == b"end\n"
    completed = up.sh("b2d ssh 'echo lost; exit 3' >&-", limit_s=60)
    assert (completed.returncode, completed.stderr) == (3, b"")


def test_stdin_may_be_longer_than_the_command_reads(up: Person) -> None:
    completed = up.sh("head -c 20000000 /dev/zero | b2d ssh -- 'cat >/dev/null; exit 3'", limit_s=120)
    assert (completed.returncode, completed.stdout, completed.stderr) == (3, b"", b"")
    assert up.sh("b2d ssh -- 'exit 4' </dev/zero", limit_s=60).returncode == 4


def test_a_script_on_stdin_runs_without_a_terminal(up: Person) -> None:
    completed = up.b2d("ssh", stdin=b"id -un\ntty\nexit 6\n")
    assert (completed.returncode, completed.stdout) == (6, b"docker\nnot a tty\n")


def test_root_only_files_cannot_be_read_without_sudo(up: Person) -> None:
    completed = up.b2d("ssh", "cat /etc/shadow")
    assert completed.returncode == 1
    assert b"Permission denied" in completed.stderr


def test_terminal_modes_are_restored_when_the_machine_is_killed(up: Person) -> None:
    """Runs last, since it kills the machine."""
    with terminal(up, "ssh") as shell:
        before = shell.modes()
        shell.expect(re.escape(PROMPT))
        os.kill(int(up.paths.qemu_pid.read_text()), signal.SIGKILL)
        assert shell.wait_for_exit() == 255
        assert shell.modes() == before
        shell.expect(rb"b2d: the connection to the guest broke")
    wait_until(lambda: up.b2d("status").stdout == b"crashed\n", condition="crashed", timeout_s=10)
    completed = up.b2d("ssh", "true")
    assert completed.returncode == 255
    assert b"crashed, not running" in completed.stderr
    assert up.b2d("ssh", "--vm", "none", "true").returncode == 255
