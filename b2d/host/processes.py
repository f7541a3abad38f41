"""The one way to run a program on this host."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from b2d.errors import B2dError, HypervisorError, WaitTimeoutError
from b2d.host.files import open_to_write
from b2d.models import CommandResult

PROBLEM_LIMIT = 1 << 16  # bytes of the end of what a program that is followed says on stderr


class ProgramNotFoundError(HypervisorError):
    """A program that b2d needs is not installed."""


def run(
    arguments: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes | IO[bytes] = b"",
    environment: Mapping[str, str] | None = None,
    aside_in: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> CommandResult:
    """Run a program to its end and return how it ended, whatever its exit code.

    Raises ProgramNotFoundError, and WaitTimeoutError after `timeout_s` seconds (the program is killed then).
    With `aside_in` it begins in that folder, and a Ctrl-C in this terminal is not sent to it. It has the open files
    `pass_fds`, under their numbers.
    """
    source: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    try:
        with _found(arguments[0]):
            done = subprocess.run(
                list(arguments),
                **source,
                capture_output=True,
                timeout=timeout_s,
                env=environment,
                check=False,
                start_new_session=aside_in is not None,
                cwd=aside_in,
                pass_fds=pass_fds,
            )
    except subprocess.TimeoutExpired as error:
        raise WaitTimeoutError(f"{arguments[0]} did not end within {timeout_s:.0f} s") from error
    return CommandResult(done.returncode, done.stdout, done.stderr)


def follow(
    arguments: Sequence[str], heard: Callable[[bytes], None], *, timeout_s: float, pass_fds: Sequence[int] = ()
) -> None:
    """Run a program that must succeed, and pass on what it says on stdout while it does. Raises as check does.

    When the wait is interrupted, the program is killed.
    """
    from tempfile import TemporaryFile

    # a pipe that nobody reads meanwhile would hold up a program with much to complain about
    with TemporaryFile() as problem:
        with _found(arguments[0]):
            process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=problem,
                bufsize=0,
                pass_fds=pass_fds,
            )
        with process, _ended(process, arguments[0], timeout_s):
            assert process.stdout is not None
            while said := process.stdout.read(4096):
                heard(said)
            process.wait()
        problem.seek(max(0, problem.seek(0, os.SEEK_END) - PROBLEM_LIMIT))
        _succeeded(arguments[0], CommandResult(process.returncode, b"", problem.read(PROBLEM_LIMIT)))


@contextmanager
def _ended(process: "subprocess.Popen[bytes]", program: str, timeout_s: float) -> Iterator[None]:
    """Kill it where the block is left by an error, or lasts for `timeout_s` seconds. Raises WaitTimeoutError then."""
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(timeout_s, end)
    try:
        timer.start()
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise WaitTimeoutError(f"{program} did not end within {timeout_s:.0f} s")


def replace_process(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a program that has this terminal, however long it takes; its exit code. Raises ProgramNotFoundError."""
    with _found(arguments[0]):
        return subprocess.call(list(arguments), env=environment)


def spawn_detached(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> int:
    """Start a program that outlives this one, and its terminal; what it says goes to `log`. Its pid. Raises alike."""
    return watch_in_background(arguments, log, environment, pass_fds).pid


def watch_in_background(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> "subprocess.Popen[bytes]":
    """The same, for who looks whether it ends soon.

    Raises ProgramNotFoundError, and OSError for a log that cannot be written.
    """
    descriptor = open_to_write(log)
    try:
        with _found(arguments[0]):
            return subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=environment,
                cwd=log.parent,
                start_new_session=True,
                pass_fds=pass_fds,
            )
    finally:
        os.close(descriptor)


@contextmanager
def _found(program: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ProgramNotFoundError(f"{program} is not installed", hint="b2d doctor --fix") from error
    except OSError as error:  # it may not be run, or is for another machine
        raise ProgramNotFoundError(f"{program} cannot be run here: {error.strerror}") from error


def check(
    arguments: Sequence[str], *, timeout_s: float, stdin: bytes | IO[bytes] = b"", pass_fds: Sequence[int] = ()
) -> bytes:
    """Run a program that must succeed and return its stdout; else raise B2dError with its stderr as details."""
    result = run(arguments, timeout_s=timeout_s, stdin=stdin, pass_fds=pass_fds)
    _succeeded(arguments[0], result)
    return result.stdout


def _succeeded(program: str, result: CommandResult) -> None:
    if result.exit_code != 0:
        said = result.stderr.decode(errors="replace").strip()
        last = said.splitlines()[-1] if said else f"exit code {result.exit_code}"
        raise B2dError(f"{program} failed: {last}", details=said)
