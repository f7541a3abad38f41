"""Run programs on this host."""

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

STDERR_LIMIT = 1 << 16  # bytes from the end of a followed program's stderr


class ProgramNotFoundError(HypervisorError):
    """A required program is not installed."""


class ProgramNotExecutableError(ProgramNotFoundError):
    """A program cannot be run on this host: it is not executable, or for another architecture."""


def run(
    arguments: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes | IO[bytes] = b"",
    environment: Mapping[str, str] | None = None,
    aside_in: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> CommandResult:
    """Run a program and return its result, whatever its exit code.

    Raises ProgramNotFoundError, and WaitTimeoutError after `timeout_s` seconds, when the program is killed. With
    `aside_in` it runs in that folder, and gets no Ctrl-C of this terminal. It inherits the descriptors `pass_fds`.
    """
    source: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    try:
        with _translated_start_errors(arguments[0]):
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
    arguments: Sequence[str], on_output: Callable[[bytes], None], *, timeout_s: float, pass_fds: Sequence[int] = ()
) -> None:
    """Run a program that must succeed, and pass on its stdout as it comes. Raises as check does.

    The program is killed when the wait is interrupted.
    """
    from tempfile import TemporaryFile

    # a pipe that is not read would block a program with a long stderr
    with TemporaryFile() as stderr:
        with _translated_start_errors(arguments[0]):
            process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                pass_fds=pass_fds,
            )
        with process, _killed_on_failure(process, arguments[0], timeout_s):
            assert process.stdout is not None
            while chunk := process.stdout.read(4096):
                on_output(chunk)
            process.wait()
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - STDERR_LIMIT))
        _require_success(arguments[0], CommandResult(process.returncode, b"", stderr.read(STDERR_LIMIT)))


@contextmanager
def _killed_on_failure(process: "subprocess.Popen[bytes]", program: str, timeout_s: float) -> Iterator[None]:
    """Kill the process on an error in the block, or after `timeout_s` seconds, raising WaitTimeoutError then."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(timeout_s, expire)
    try:
        timer.start()
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()
    if expired.is_set():
        raise WaitTimeoutError(f"{program} did not end within {timeout_s:.0f} s")


def run_in_foreground(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a program with this terminal and return its exit code. Raises ProgramNotFoundError."""
    with _translated_start_errors(arguments[0]):
        return subprocess.call(list(arguments), env=environment)


def spawn_detached(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> int:
    """Start a program that outlives this one, with its output in `log`, and return its pid.

    Raises ProgramNotFoundError and OSError.
    """
    return watch_in_background(arguments, log, environment, pass_fds).pid


def watch_in_background(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> "subprocess.Popen[bytes]":
    """Start a program as spawn_detached, and return it for a check of an early end.

    Raises ProgramNotFoundError, and OSError for a log that cannot be written.
    """
    descriptor = open_to_write(log)
    try:
        with _translated_start_errors(arguments[0]):
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
def _translated_start_errors(program: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ProgramNotFoundError(f"{program} is not installed", hint="b2d doctor --fix") from error
    except OSError as error:
        raise ProgramNotExecutableError(f"{program} cannot be run on this host: {error.strerror}") from error


def check(
    arguments: Sequence[str], *, timeout_s: float, stdin: bytes | IO[bytes] = b"", pass_fds: Sequence[int] = ()
) -> bytes:
    """Run a program that must succeed and return its stdout. Raises B2dError with its stderr as details."""
    result = run(arguments, timeout_s=timeout_s, stdin=stdin, pass_fds=pass_fds)
    _require_success(arguments[0], result)
    return result.stdout


def _require_success(program: str, result: CommandResult) -> None:
    if result.exit_code != 0:
        stderr = result.stderr.decode(errors="replace").strip()
        last = stderr.splitlines()[-1] if stderr else f"exit code {result.exit_code}"
        raise B2dError(f"{program} failed: {last}", details=stderr)
