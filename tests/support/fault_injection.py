"""A file system that fails at the Nth change, or where the process dies; changes are counted by Python's audit hooks.

A hook is called before each change and may forbid it. Writes to an open file are not reported; os.fsync counts
instead.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ERRORS = (errno.ENOSPC, errno.EACCES, errno.EROFS)
KILLED = 9


@dataclass
class Faults:
    """The fault, and the change below `folder` at which it occurs; 0: at every one; above their number: at none."""

    folder: Path
    at: int
    strike: Callable[[str], None]
    passed: int = 0

    def hear(self, path: object) -> None:
        if isinstance(path, str | bytes | os.PathLike) and (name := os.fsdecode(path)).startswith("/"):
            if not name.startswith(str(self.folder)):
                return
        else:
            name = str(path)  # a descriptor, or a path relative to one
        self.passed += 1
        if self.at in (0, self.passed):
            self.strike(name)


_armed: list[Faults] = []
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _armed:
        return
    if event == "open":
        if isinstance(arguments[0], int) or not (arguments[2] or 0) & WRITES:
            return
    elif event not in CHANGES:
        return
    _armed[-1].hear(arguments[0])


@contextmanager
def inject_faults(faults: Faults) -> Iterator[Faults]:
    """Count changes and inject the fault in the block. fsync does nothing there, as it is slow."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    really = os.fsync

    def fsync(fd: object) -> None:
        faults.hear("fsync")

    _armed.append(faults)
    os.fsync = fsync
    try:
        yield faults
    finally:
        os.fsync = really
        _armed.remove(faults)


def count_changes(folder: Path, act: Callable[[], object]) -> int:
    """Return the number of changes that the call makes."""
    with inject_faults(Faults(folder, -1, lambda _: None)) as faults:
        act()
    return faults.passed


def run_failing(folder: Path, at: int, act: Callable[[], object], number: int = 0) -> None:
    """Run the call; its `at`-th change fails with that errno, by default another one each time."""

    def refuse(name: str) -> None:
        code = number or ERRORS[at % len(ERRORS)]
        raise OSError(code, os.strerror(code), name)

    with inject_faults(Faults(folder, at, refuse)):
        act()


def run_dying(folder: Path, at: int, act: Callable[[], object], last_will: Callable[[], object]) -> bool:
    """Run the call in a process that dies at its `at`-th change; `last_will` runs there outside of b2d.

    Return True when the process died before the end of the call.
    """
    child = os.fork()
    if child == 0:
        _live(folder, at, act, last_will)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), f"it failed at change {at}, instead of dying"
    return code == KILLED


def _live(folder: Path, at: int, act: Callable[[], object], last_will: Callable[[], object]) -> NoReturn:
    faults = Faults(folder, at, lambda _: None)

    def die(_: str) -> None:
        _armed.clear()
        last_will()
        os._exit(KILLED)

    faults.strike = die
    try:
        with inject_faults(faults):
            act()
        last_will()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  this process must not continue as a second pytest
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
