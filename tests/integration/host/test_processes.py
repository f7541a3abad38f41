"""Programs of this host are run with limits, and missing ones are reported."""

import os
import signal
import time
from pathlib import Path

import pytest

from b2d.errors import B2dError, WaitTimeoutError
from b2d.host import processes
from b2d.models import CommandResult
from tests.support.timing import not_waiting_for

SHORT_S = 20


def test_exit_code_and_output_of_a_program_are_returned() -> None:
    script = "cat; echo out; echo err >&2; exit 7"
    completed = processes.run(["sh", "-c", script], timeout_s=SHORT_S, stdin=b"in\0\xff ")
    assert completed == CommandResult(7, b"in\0\xff out\n", b"err\n")


def test_a_program_reads_from_the_given_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with (tmp_path / "file").open("rb") as file:
        assert processes.run(["cat"], timeout_s=SHORT_S, stdin=file).stdout == b"content"


def test_without_input_stdin_is_empty_and_not_this_terminal() -> None:
    assert processes.run(["cat"], timeout_s=SHORT_S).stdout == b""


def test_a_program_can_get_another_environment() -> None:
    completed = processes.run(["/bin/sh", "-c", "echo $A$HOME"], timeout_s=SHORT_S, environment={"A": "b"})
    assert completed.stdout == b"b\n"


def test_a_detached_program_has_a_session_of_its_own(tmp_path: Path) -> None:
    script = "ps -o sid= -p $$ || echo $$"
    own = processes.run(["sh", "-c", script], timeout_s=SHORT_S, aside_in=tmp_path).stdout
    assert int(own) != os.getsid(0)
    assert int(processes.run(["sh", "-c", "ps -o sid= -p $$"], timeout_s=SHORT_S).stdout) == os.getsid(0)


def test_a_missing_program_is_reported_with_a_hint() -> None:
    with pytest.raises(processes.ProgramNotFoundError) as caught:
        processes.run(["no-such-program"], timeout_s=SHORT_S)
    assert caught.value.message == "no-such-program is not installed"
    assert caught.value.hint == "b2d doctor --fix"
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(("mode", "content"), [(0o600, b"#!/bin/sh\n"), (0o700, b"\x7fELF for another machine")])
def test_a_program_that_cannot_run_here_is_reported(tmp_path: Path, mode: int, content: bytes) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(mode)
    with pytest.raises(processes.ProgramNotFoundError, match="program cannot be run on this host: "):
        processes.run([str(program)], timeout_s=SHORT_S)


def test_a_program_that_exceeds_its_timeout_is_killed(tmp_path: Path) -> None:
    with not_waiting_for(20), pytest.raises(WaitTimeoutError, match="sh did not end within"):
        processes.run(["sh", "-c", f"echo $$ >{tmp_path}/pid; trap '' TERM; while :; do :; done"], timeout_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_child_that_holds_the_output_open_does_not_block_the_timeout(tmp_path: Path) -> None:
    with not_waiting_for(20), pytest.raises(WaitTimeoutError):
        processes.run(["sh", "-c", f"sleep 30 & echo $! >{tmp_path}/pid; wait"], timeout_s=0.5)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_check_returns_the_output() -> None:
    assert processes.check(["cat"], timeout_s=SHORT_S, stdin=b"content") == b"content"


def test_check_reports_a_failure_with_its_last_line() -> None:
    with pytest.raises(B2dError) as caught:
        processes.check(["sh", "-c", "echo first >&2; echo 'why it is so' >&2; exit 1"], timeout_s=SHORT_S)
    assert caught.value.message == "sh failed: why it is so"
    assert caught.value.details == "first\nwhy it is so"
    with pytest.raises(B2dError, match="sh failed: exit code 3"):
        processes.check(["sh", "-c", "exit 3"], timeout_s=SHORT_S)


def test_the_output_of_a_followed_program_is_delivered_while_it_runs() -> None:
    pieces: list[bytes] = []
    begin = time.monotonic()
    when: list[float] = []

    def hear(piece: bytes) -> None:
        pieces.append(piece)
        when.append(time.monotonic() - begin)

    processes.follow(["sh", "-c", "echo one; sleep 0.5; echo two"], hear, timeout_s=30)
    assert b"".join(pieces) == b"one\ntwo\n"
    assert when[-1] - when[0] > 0.3


def test_a_followed_program_that_fails_or_times_out_is_an_error() -> None:
    with pytest.raises(B2dError, match="sh failed: no room"):
        processes.follow(["sh", "-c", "echo no room >&2; exit 3"], print, timeout_s=30)
    with pytest.raises(WaitTimeoutError, match="sleep did not end within 0 s"):
        processes.follow(["sleep", "60"], print, timeout_s=0.2)
    with pytest.raises(processes.ProgramNotFoundError):
        processes.follow(["no-such-program"], print, timeout_s=30)


def test_a_followed_program_may_write_a_long_stderr() -> None:
    """stderr exceeds a pipe while stdout is open; its end, which has the reason, is preserved."""
    with pytest.raises(B2dError, match="sh failed: no room") as caught:
        processes.follow(["sh", "-c", "yes no | head -c 999999 >&2; echo no room >&2; exit 3"], print, timeout_s=30)
    assert len(caught.value.details) <= processes.STDERR_LIMIT


def test_a_followed_program_ends_when_its_reader_raises() -> None:
    def hear(piece: bytes) -> None:
        raise KeyboardInterrupt

    with not_waiting_for(60), pytest.raises(KeyboardInterrupt):
        processes.follow(["sh", "-c", "echo one; exec sleep 60"], hear, timeout_s=90)
