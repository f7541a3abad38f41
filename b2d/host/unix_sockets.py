"""Unix sockets, also where a path is longer than a socket's may be: then they are reached from their own folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

LIMIT = 100  # bytes; sun_path holds 104 on macOS and 108 on Linux, with its final zero
BACKLOG = 128


def fits(path: Path) -> bool:
    """True where any program can be given it."""
    return len(os.fsencode(path)) <= LIMIT


def serves(path: Path) -> bool:
    """True where a client can be given a socket at `path`: its name is short enough, and Python knows such sockets."""
    import socket

    return fits(path) and hasattr(socket, "AF_UNIX")


def connect(one: "socket.socket", path: Path) -> None:
    """Connect to the socket at `path`. Raises OSError."""
    with _called(path) as name:
        one.connect(name)


def listen(path: Path) -> "socket.socket":
    """One at `path` that only its owner may connect to; what was there before is gone. Raises OSError."""
    import socket

    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        new = path.with_name(f"{path.name}.new")  # nobody finds it before it is closed to others, and listens
        new.unlink(missing_ok=True)
        with _called(new) as name:
            one.bind(name)
        new.chmod(0o600)
        one.listen(BACKLOG)
        new.replace(path)
    except BaseException:
        one.close()
        raise
    return one


@contextmanager
def listening(path: Path) -> "Iterator[socket.socket]":
    """The same in the block; afterwards nothing is there. Raises OSError."""
    with listen(path) as one:
        try:
            yield one
        finally:
            path.unlink(missing_ok=True)


def answers(path: Path) -> bool:
    """True where somebody listens there."""
    import socket

    if not hasattr(socket, "AF_UNIX"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        try:
            connect(one, path)
        except OSError:
            return False
        return True


@contextmanager
def _called(path: Path) -> Iterator[str]:
    """What the kernel is given for `path`, which may be long; its folder may not."""
    if fits(path):
        yield str(path)
        return
    folder = os.open(path.parent, getattr(os, "O_PATH", os.O_RDONLY))
    try:
        short = f"/proc/self/fd/{folder}"
        if os.path.exists(short):  # noqa: PTH110  Linux; there other threads keep their folder
            yield f"{short}/{path.name}"
            return
        here = os.open(".", os.O_RDONLY)
        try:
            os.fchdir(folder)
            yield path.name
        finally:
            os.fchdir(here)
            os.close(here)
    finally:
        os.close(folder)
