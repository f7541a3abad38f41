"""Remove b2d's own files by name, and nothing else: no other file, and nothing through a link.

A folder with files of others stays. Such a folder with the name of a file of b2d's is moved aside as a whole.
"""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from b2d.host.dir_fds import open_folder

NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)
A_FOLDER = (errno.EISDIR, errno.EPERM, errno.EACCES)  # errors of unlink for a folder: Linux, macOS, Windows
SET_ASIDE = "set-aside"  # the folder in a home for folders that had the name of a file of b2d's


class OwnNames:
    """The names of b2d's files in a folder as patterns of fnmatch, and of folders with their content."""

    def __init__(self, files: tuple[str, ...] = (), folders: "Mapping[str, OwnNames] | None" = None) -> None:
        """Keep the patterns."""
        self.files = files
        self.folders = folders or {}

    def __contains__(self, name: str) -> bool:
        """Return whether the name is b2d's."""
        return any(fnmatchcase(name, pattern) for pattern in (*self.files, *self.folders))

    def within(self, name: str) -> "OwnNames | None":
        """Return the names in the folder of that name, None where it is not b2d's."""
        return next((inside for pattern, inside in self.folders.items() if fnmatchcase(name, pattern)), None)


def remove_own(folder: Path, own: OwnNames) -> list[str]:
    """Remove everything in `own` from `folder`, then the folder; return the sorted names that stay.

    Links are not followed. A missing folder is no error. Raises OSError.
    """
    try:
        with open_folder(str(folder), None) as inside:
            _clear(inside, own)
            remaining = sorted(os.listdir(inside))  # noqa: PTH208  by its descriptor
    except FileNotFoundError:
        return []
    if not remaining:
        folder.rmdir()
    return remaining


def remove(path: Path) -> bool:
    """Remove a file, link, socket, FIFO, device node or empty folder; return False for a folder with content.

    A missing path is no error. Raises OSError.
    """
    return _remove(str(path), None)


def move_aside(path: Path, aside: Path) -> Path | None:
    """Remove the path; a folder with content is moved into the folder `aside` instead.

    Returns its new path, else None. Raises OSError.
    """
    if remove(path):
        return None
    from b2d.host.files import private_folder

    private_folder(aside)
    names = (f"{path.parent.name}.{path.name}{number}" for number in ["", *(f".{count}" for count in range(1, 10_000))])
    target = next(aside / name for name in names if not os.path.lexists(aside / name))
    path.rename(target)
    return target


def _clear(folder: "int | str", own: OwnNames) -> None:
    for name in os.listdir(folder):  # noqa: PTH208  by its descriptor
        if name not in own:
            continue
        if (names := own.within(name)) is not None:
            with suppress(OSError), open_folder(name, folder) as inside:  # a file or a link is removed below
                _clear(inside, names)
        _remove(name, folder)


def _remove(name: str, within: "int | str | None") -> bool:
    arguments = {"dir_fd": within} if isinstance(within, int) else {}
    path = os.path.join(within, name) if isinstance(within, str) else name  # noqa: PTH118
    try:
        os.unlink(path, **arguments)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in A_FOLDER:
            raise
        try:
            os.rmdir(path, **arguments)
        except NotADirectoryError:
            raise error from None
        except OSError as rmdir_error:
            if rmdir_error.errno in NOT_EMPTY:
                return False
            raise
    return True
