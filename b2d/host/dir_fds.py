"""Folders of this host by descriptors: what lies in one is reached without following a link that appears meanwhile.

A guest that has the folder too may exchange what b2d is at. Windows knows no such descriptors: there it goes by names.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

Folder = int | str  # a descriptor, or a path where there are none
BY_DESCRIPTOR = os.unlink in os.supports_dir_fd and os.listdir in os.supports_fd


@contextmanager
def open_folder(name: str, within: Folder | None = None) -> Iterator[Folder]:
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
def parent_of(path: str, within: Folder) -> Iterator[tuple[Folder, str]]:
    """The folder in which `path`, with slashes between, lies below `within`, and the last name."""
    *parts, last = path.split("/")
    with ExitStack() as folders:
        for part in parts:
            within = folders.enter_context(open_folder(part, within))
        yield within, last


def entry_names(name: str, within: Folder, key: str = "dir_fd") -> tuple[str, dict[str, int]]:
    """How a function of os is told of a name in a folder."""
    if isinstance(within, str):
        return os.path.join(within, name), {}  # noqa: PTH118
    return name, {key: within}


def set_mode(folder: Folder, mode: int) -> None:
    """Set the rights of an open folder."""
    os.chmod(folder, mode)  # noqa: PTH101


def make_accessible(folder: Folder, mode: int) -> None:
    """Give all that lies below an open folder `mode`, so that it can be removed; links stay as they are.

    Raises OSError.
    """
    for name in os.listdir(folder):  # noqa: PTH208  by its descriptor
        it, where = entry_names(name, folder)
        kind = os.lstat(it, **where).st_mode
        if stat.S_ISLNK(kind) or (BY_DESCRIPTOR and not stat.S_ISDIR(kind)):  # read-only files stay on Windows alone
            continue
        _set_mode_at(it, where, mode)
        if stat.S_ISDIR(kind):
            with open_folder(name, folder) as inner:
                make_accessible(inner, mode)


def remove_all(folder: Folder) -> None:
    """Remove all that lies in an open folder, whatever has its name by now. Raises OSError."""
    import shutil

    for name in os.listdir(folder):  # noqa: PTH208  by its descriptor
        it, where = entry_names(name, folder)
        if stat.S_ISDIR(os.lstat(it, **where).st_mode):
            shutil.rmtree(it, dir_fd=where.get("dir_fd"))
        else:
            os.unlink(it, **where)


def _set_mode_at(name: str, where: dict[str, int], mode: int) -> None:
    """Set the rights of what has this name and is no link, even where it allows nobody to open it."""
    if not hasattr(os, "O_PATH"):  # macOS can be asked so; Windows cannot, and has no descriptors either
        os.chmod(name, mode, **where, follow_symlinks=not BY_DESCRIPTOR)  # noqa: PTH101
        return
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, **where)
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.chmod(f"/proc/self/fd/{descriptor}", mode)  # noqa: PTH101  fchmod takes no such descriptor
    finally:
        os.close(descriptor)
