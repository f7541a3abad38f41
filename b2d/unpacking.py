"""A stream of tar, from whomever, as files of this host: all in one folder, and nothing is written through a link."""

import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tarfile import TarFile, TarInfo
from typing import IO

from b2d.errors import B2dError
from b2d.packing import CHUNK, OWNERS, Told, entries, inner

PERMISSIONS = 0o777  # what else a mode can say (to run as its owner) is not taken from a guest


class Unpacker:
    """Makes the entries below `top` of an archive at `root`, which is not there yet.

    Links are made when all else is there, so that nothing can be written through one.
    """

    def __init__(self, root: Path, top: str, advance: Callable[[int], None], told: Told) -> None:
        self._root = root
        self._top = top
        self._advance = advance
        self._told = told
        self._links: list[tuple[Path, str]] = []
        self._folders: list[tuple[Path, TarInfo]] = []
        self.files = 0

    def take(self, archive: TarFile) -> None:
        """All of it. Raises OSError, TarError, and B2dError for a path that leads outside."""
        for entry in entries(archive):
            self._one(archive, entry)
        for path, target in self._links:
            path.symlink_to(target)
        for path, entry in reversed(self._folders):
            path.chmod(entry.mode & PERMISSIONS)
            os.utime(path, (entry.mtime, entry.mtime))

    def _one(self, archive: TarFile, entry: TarInfo) -> None:
        path = self._path(entry.name)
        if entry.isdir():
            path.mkdir(OWNERS)
            self._folders.append((path, entry))
        elif entry.issym():
            self._links.append((path, entry.linkname))
        elif entry.islnk():
            os.link(self._path(entry.linkname), path)
        elif entry.isreg():
            content = archive.extractfile(entry)
            assert content is not None
            with path.open("xb") as file:
                self._copy(content, file)
            path.chmod(entry.mode & PERMISSIONS)
            os.utime(path, (entry.mtime, entry.mtime))
        else:
            self._told(f"{entry.name} is no file, folder or link, and was left out")
            return
        self.files += not entry.isdir()

    def _copy(self, content: IO[bytes], file: IO[bytes]) -> None:
        while piece := content.read(CHUNK):
            file.write(piece)
            self._advance(len(piece))

    def _path(self, name: str) -> Path:
        path = inner(name)
        if not self._top:
            return self._root / path
        if path != self._top and not path.startswith(f"{self._top}/"):
            raise B2dError(f"the archive has a path that leads outside: {name!r}")
        return self._root / path[len(self._top) + 1 :]


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for what is not whole yet; gone afterwards, with all that is left in it."""
    made = Path(tempfile.mkdtemp(prefix=".b2d-", dir=folder))
    try:
        yield made
    finally:
        for above, names, _ in os.walk(made):  # one that allows no writing is to go all the same
            for path in (Path(above) / name for name in names):
                if not path.is_symlink():
                    path.chmod(OWNERS)
        shutil.rmtree(made)


def landing(typed: str, name: str, *, many: bool) -> tuple[Path, Path]:
    """Where something called `name` comes to lie, and in which folder it is made, as for cp. Raises B2dError.

    A link is followed where it was typed, and nowhere else.
    """
    asked = Path(typed)
    if asked.is_dir():
        return (asked / name if name else asked), asked
    if many:
        raise B2dError(f"{typed} is no folder, and several things cannot have one name")
    final = Path(os.path.realpath(asked)) if asked.is_symlink() else asked
    if not final.parent.is_dir():
        raise B2dError(f"there is no folder {final.parent}", hint=f"mkdir -p {shlex.quote(str(final.parent))}")
    return final, final.parent


def put(new: Path, final: Path) -> None:
    """Move it there; of a folder that is there already what is in it goes in. Raises OSError and B2dError, as cp -a."""
    is_folder = new.is_dir() and not new.is_symlink()
    mode = stat.S_IMODE(new.lstat().st_mode)
    if is_folder:
        new.chmod(mode | OWNERS)  # else only root could move it, or what is in it
    if is_folder and final.is_dir() and not final.is_symlink():
        for child in sorted(new.iterdir()):
            put(child, final / child.name)
    elif is_folder and os.path.lexists(final):
        raise B2dError(f"{final} is there, and no folder")
    elif not is_folder and final.is_dir() and not final.is_symlink():
        raise B2dError(f"{final} is a folder, and a file should take its place")
    else:
        new.replace(final)
        if is_folder:
            final.chmod(mode)
