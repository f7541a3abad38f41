"""Unix sockets, also at paths longer than a socket's may be: these are used from their own folder."""

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
    """Return whether any program can use a socket at the path."""
    return len(os.fsencode(path)) <= LIMIT


def serves(path: Path) -> bool:
    """Return whether clients can use a socket at `path`: it is short enough, and Python supports such sockets."""
    import socket

    return fits(path) and hasattr(socket, "AF_UNIX")


def connect(client: "socket.socket", path: Path) -> None:
    """Connect a socket to `path`. Raises OSError."""
    with _short_name(path) as name:
        client.connect(name)


def listen(path: Path) -> "socket.socket":
    """Return a socket at `path` for its owner only, replacing what was there. Raises OSError."""
    import socket

    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        new = path.with_name(f"{path.name}.new")  # renamed only when it has its mode and listens
        new.unlink(missing_ok=True)
        with _short_name(new) as name:
            server.bind(name)
        new.chmod(0o600)
        server.listen(BACKLOG)
        new.replace(path)
    except BaseException:
        server.close()
        raise
    return server


@contextmanager
def listening(path: Path) -> "Iterator[socket.socket]":
    """Listen during the block, and remove the socket afterwards. Raises OSError."""
    with listen(path) as server:
        try:
            yield server
        finally:
            path.unlink(missing_ok=True)


def answers(path: Path) -> bool:
    """Return whether a server listens there."""
    import socket

    if not hasattr(socket, "AF_UNIX"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            connect(client, path)
        except OSError:
            return False
        return True


@contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Yield a name for the kernel for `path`, which may be too long; its last part may not."""
    if fits(path):
        yield str(path)
        return
    folder = os.open(path.parent, getattr(os, "O_PATH", os.O_RDONLY))
    try:
        short = f"/proc/self/fd/{folder}"
        if os.path.exists(short):  # noqa: PTH110  Linux: without changing other threads' folder
            yield f"{short}/{path.name}"
            return
        previous = os.open(".", os.O_RDONLY)
        try:
            os.fchdir(folder)
            yield path.name
        finally:
            os.fchdir(previous)
            os.close(previous)
    finally:
        os.close(folder)
