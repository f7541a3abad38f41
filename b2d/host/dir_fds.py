"""Access to folders by descriptors, so that no link that appears meanwhile is followed.

A guest that shares the folder may replace files while b2d works on them. Windows has no such descriptors, and paths are
used there.
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
    """Open a folder that is not a link, by a descriptor where the system supports it. Raises OSError."""
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
    """Yield the folder of `path`, a path with slashes below `within`, and the last name."""
    *parts, last = path.split("/")
    with ExitStack() as folders:
        for part in parts:
            within = folders.enter_context(open_folder(part, within))
        yield within, last


def entry_names(name: str, within: Folder, key: str = "dir_fd") -> tuple[str, dict[str, int]]:
    """Return the path and the keyword arguments of a function of os for a name in a folder."""
    if isinstance(within, str):
        return os.path.join(within, name), {}  # noqa: PTH118
    return name, {key: within}


def set_mode(folder: Folder, mode: int) -> None:
    """Set the mode of an open folder."""
    os.chmod(folder, mode)  # noqa: PTH101


def make_accessible(folder: Folder, mode: int) -> None:
    """Give everything below an open folder `mode`, so that it can be removed; links are unchanged.

    Raises OSError.
    """
    for name in os.listdir(folder):  # noqa: PTH208  by its descriptor
        path, arguments = entry_names(name, folder)
        kind = os.lstat(path, **arguments).st_mode
        if stat.S_ISLNK(kind) or (
            BY_DESCRIPTOR and not stat.S_ISDIR(kind)
        ):  # only Windows cannot remove read-only files
            continue
        _set_mode_at(path, arguments, mode)
        if stat.S_ISDIR(kind):
            with open_folder(name, folder) as inner:
                make_accessible(inner, mode)


def remove_all(folder: Folder) -> None:
    """Remove everything in an open folder, even if it is replaced meanwhile. Raises OSError."""
    import shutil

    for name in os.listdir(folder):  # noqa: PTH208  by its descriptor
        path, arguments = entry_names(name, folder)
        if stat.S_ISDIR(os.lstat(path, **arguments).st_mode):
            shutil.rmtree(path, dir_fd=arguments.get("dir_fd"))
        else:
            os.unlink(path, **arguments)


def _set_mode_at(name: str, arguments: dict[str, int], mode: int) -> None:
    """Set the mode of an entry that is not a link, even if its mode does not allow opening it."""
    if not hasattr(os, "O_PATH"):  # macOS supports this call; Windows does not, and has no descriptors either
        os.chmod(name, mode, **arguments, follow_symlinks=not BY_DESCRIPTOR)  # noqa: PTH101
        return
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, **arguments)
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.chmod(f"/proc/self/fd/{descriptor}", mode)  # noqa: PTH101  fchmod does not accept such a descriptor
    finally:
        os.close(descriptor)
