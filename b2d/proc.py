"""The one way to run a program on this host."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from b2d.errors import B2dError, HypervisorUnusable, OutOfTime
from b2d.model import CommandResult


class ProgramMissing(HypervisorUnusable):
    """A program that b2d needs is not installed."""


def run(
    arguments: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes | IO[bytes] = b"",
    environment: Mapping[str, str] | None = None,
    own_session: bool = False,
) -> CommandResult:
    """Run a program to its end and return how it ended, whatever its exit code.

    Raises ProgramMissing, and OutOfTime after `timeout_s` seconds (the program is killed then).
    With `own_session` a Ctrl-C in this terminal is not sent to the program.
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
                start_new_session=own_session,
            )
    except subprocess.TimeoutExpired as error:
        raise OutOfTime(f"{arguments[0]} did not end within {timeout_s:.0f} s") from error
    return CommandResult(done.returncode, done.stdout, done.stderr)


def hand_over(arguments: Sequence[str]) -> int:
    """Run a program that has this terminal, however long it takes; its exit code. Raises ProgramMissing."""
    with _found(arguments[0]):
        return subprocess.call(list(arguments))


@contextmanager
def _found(program: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ProgramMissing(f"{program} is not installed", hint="b2d doctor --fix") from error
    except OSError as error:  # it may not be run, or is for another machine
        raise ProgramMissing(f"{program} cannot be run here: {error.strerror}") from error


def check(arguments: Sequence[str], *, timeout_s: float, stdin: bytes | IO[bytes] = b"") -> bytes:
    """Run a program that must succeed and return its stdout; else raise B2dError with its stderr as details."""
    result = run(arguments, timeout_s=timeout_s, stdin=stdin)
    if result.exit_code != 0:
        said = result.stderr.decode(errors="replace").strip()
        last = said.splitlines()[-1] if said else f"exit code {result.exit_code}"
        raise B2dError(f"{arguments[0]} failed: {last}", details=said)
    return result.stdout
