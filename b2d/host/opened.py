"""Folders of this host by descriptors: what lies in one is reached without following a link that appears meanwhile.

A guest that has the folder too may exchange what b2d is at. Windows knows no such descriptors: there it goes by names.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

Folder = int | str  # a descriptor, or a path where there are none
BY_DESCRIPTOR = os.unlink in os.supports_dir_fd and os.listdir in os.supports_fd


@contextmanager
def opened(name: str, within: Folder | None = None) -> Iterator[Folder]:
    """A folder that is no link, by a descriptor where the system can be asked so. Raises OSError."""
    if not BY_DESCRIPTOR:
        path = name if within is None else os.path.join(str(within), name)  # noqa: PTH118  Windows: no descriptors
        if os.path.islink(path):  # noqa: PTH114
            raise NotADirectoryError(errno.ENOTDIR, "it is a link", path)
        yield path
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)  # type: ignore[arg-type]
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def above(path: str, within: Folder) -> Iterator[tuple[Folder, str]]:
    """The folder in which `path`, with slashes between, lies below `within`, and the last name."""
    *parts, last = path.split("/")
    with ExitStack() as folders:
        for part in parts:
            within = folders.enter_context(opened(part, within))
        yield within, last


def named(name: str, within: Folder, key: str = "dir_fd") -> tuple[str, dict[str, int]]:
    """How a function of os is told of a name in a folder."""
    if isinstance(within, str):
        return os.path.join(within, name), {}  # noqa: PTH118
    return name, {key: within}


def set_mode(folder: Folder, mode: int) -> None:
    """Set the rights of an open folder."""
    os.chmod(folder, mode)  # noqa: PTH101
