"""Remove files of b2d's own by their names, and nothing else: no other file, and nothing through a link.

A folder in which somebody else put something stays. Where such a folder has the name of a file of b2d's, and so is in
the way, it is moved aside whole.
"""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from b2d.host.dir_fds import open_folder

NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)
A_FOLDER = (errno.EISDIR, errno.EPERM, errno.EACCES)  # what unlink says of one: Linux, macOS, Windows
SET_ASIDE = "set-aside"  # the folder in a home for folders that lay in the place of b2d's files and hold something


@dataclass(frozen=True, slots=True)
class OwnNames:
    """Which names in a folder are b2d's, as patterns of fnmatch: files, and folders with what may be in them."""

    files: tuple[str, ...] = ()
    folders: Mapping[str, "OwnNames"] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in (*self.files, *self.folders))

    def within(self, name: str) -> "OwnNames | None":
        """What may be in the folder of that name, None where there is no such folder."""
        return next((inside for pattern, inside in self.folders.items() if fnmatchcase(name, pattern)), None)


def remove_own(folder: Path, own: OwnNames) -> list[str]:
    """Remove from `folder` all that `own` names, and then the folder; return the names that stay in it, sorted.

    Neither `folder` nor anything in it is followed where it is a link. Not there: nothing. Raises OSError.
    """
    try:
        with open_folder(str(folder), None) as inside:
            _clear(inside, own)
            left = sorted(os.listdir(inside))  # noqa: PTH208  by its descriptor
    except FileNotFoundError:
        return []
    if not left:
        folder.rmdir()
    return left


def remove(path: Path) -> bool:
    """Remove a file, link, socket, FIFO or device node, or an empty folder; False for a folder with something in it.

    Not there: nothing. Raises OSError.
    """
    return _remove(str(path), None)


def move_aside(path: Path, aside: Path) -> Path | None:
    """Remove what lies at `path`; a folder with something in it is moved into the folder `aside` instead.

    Return where it is then, else None. Raises OSError.
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
            with suppress(OSError), open_folder(name, folder) as inside:  # a file or a link: it goes by its name
                _clear(inside, names)
        _remove(name, folder)


def _remove(name: str, within: "int | str | None") -> bool:
    place = {"dir_fd": within} if isinstance(within, int) else {}
    path = os.path.join(within, name) if isinstance(within, str) else name  # noqa: PTH118
    try:
        os.unlink(path, **place)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in A_FOLDER:
            raise
        try:
            os.rmdir(path, **place)
        except NotADirectoryError:
            raise error from None
        except OSError as refused:
            if refused.errno in NOT_EMPTY:
                return False
            raise
    return True
