"""A stream of tar, from whomever, as files of this host: all in one folder, and nothing is written through a link."""

import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tarfile import TarFile, TarInfo
from typing import IO

from b2d.errors import B2dError
from b2d.guest.transfer.tar_writer import CHUNK, OWNERS, DeferredLinks, OnSkipped, SkippedEntries, entries, inner_path
from b2d.host.dir_fds import (
    BY_DESCRIPTOR,
    Folder,
    entry_names,
    make_accessible,
    open_folder,
    parent_of,
    remove_all,
    set_mode,
)

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
PERMISSIONS = 0o777  # what else a mode can say (to run as its owner) is not taken from a guest


class Unpacker:
    """Makes the entries below `top` of an archive at `root`, which is not there yet.

    Links are made when all else is there, so that nothing can be written through one.
    """

    def __init__(self, root: Path, top: str, advance: Callable[[int], None], told: OnSkipped) -> None:
        self._root = root
        self._top = top
        self._advance = advance
        self._left_out = SkippedEntries(told)
        self._later = DeferredLinks()
        self._links: list[tuple[str, str]] = []
        self._folders: list[tuple[str, int, float]] = []  # each with its mode, and its time
        self.files = 0

    def take(self, archive: TarFile) -> None:
        """All of it. Raises OSError, TarError, and B2dError for a path that leads outside."""
        with open_folder(str(self._root.parent)) as base:
            for entry in entries(archive):
                self._one(archive, entry, base)
            for path, target in self._links:
                with parent_of(path, base) as (folder, name):
                    it, where = entry_names(name, folder)
                    os.symlink(target, it, dir_fd=where.get("dir_fd"))
            for path, mode, mtime in reversed(self._folders):
                with parent_of(path, base) as (folder, name), open_folder(name, folder) as made:
                    set_mode(made, mode & PERMISSIONS)
                    os.utime(made, (mtime, mtime))

    def _one(self, archive: TarFile, entry: TarInfo, base: Folder) -> None:
        path = self._path(entry.name)
        with parent_of(path, base) as (folder, last):
            name, where = entry_names(last, folder)
            if entry.isdir():
                self._later.add(path)
                os.mkdir(name, OWNERS, **where)  # noqa: PTH102
                self._folders.append((path, entry.mode, entry.mtime))
            elif entry.issym():
                self._later.add(path, entry.linkname)
                self._links.append((path, entry.linkname))
            elif entry.islnk():
                self._link(self._path(entry.linkname), base, (last, folder))
            elif entry.isreg():
                content = archive.extractfile(entry)
                assert content is not None
                self._write(content, entry, os.open(name, NEW, 0o600, **where))
                if not BY_DESCRIPTOR:
                    os.utime(name, (entry.mtime, entry.mtime))
            else:
                self._left_out.add(entry.name)
                return
        self.files += not entry.isdir()

    def _link(self, source: str, base: Folder, place: tuple[str, Folder]) -> None:
        name, there = entry_names(*place, "dst_dir_fd")
        with parent_of(source, base) as (folder, last):
            linked, here = entry_names(last, folder, "src_dir_fd")
            os.link(linked, name, **here, **there, follow_symlinks=not BY_DESCRIPTOR)

    def _write(self, content: IO[bytes], entry: TarInfo, descriptor: int) -> None:
        with os.fdopen(descriptor, "wb") as file:
            self._copy(content, file)
            file.flush()
            if BY_DESCRIPTOR:
                os.fchmod(descriptor, entry.mode & PERMISSIONS)
                os.utime(descriptor, (entry.mtime, entry.mtime))

    def _copy(self, content: IO[bytes], file: IO[bytes]) -> None:
        while piece := content.read(CHUNK):
            file.write(piece)
            self._advance(len(piece))

    def _path(self, name: str) -> str:
        """Where it comes to lie, below the folder of the root."""
        path = inner_path(name)
        if self._top and path != self._top and not path.startswith(f"{self._top}/"):
            raise B2dError(f"the archive has a path that leads outside: {name!r}")
        below = path[len(self._top) :].strip("/")
        return f"{self._root.name}/{below}" if below else self._root.name


@contextmanager
def remove_unfinished(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for what is not whole yet; gone afterwards, with all that is left in it."""
    made = Path(tempfile.mkdtemp(prefix=".b2d-", dir=folder))
    with open_folder(str(made)) as it:
        try:
            yield made
        finally:
            make_accessible(it, OWNERS)  # one that allows no writing is to go all the same
            remove_all(it)
            with suppress(NotADirectoryError, FileNotFoundError):  # somebody moved it, or put a link in its place
                made.rmdir()


def final_path(typed: str, name: str, *, many: bool) -> tuple[Path, Path]:
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


def place_file(new: Path, final: Path) -> None:
    """Move it there; of a folder that is there already what is in it goes in. Raises OSError and B2dError, as cp -a."""
    with open_folder(str(new.parent)) as here, open_folder(os.path.realpath(final.parent)) as there:
        _put((new.name, here), (final.name, there), final)


def _put(new: tuple[str, Folder], final: tuple[str, Folder], told: Path) -> None:
    mode, before = _mode(new), _mode(final)
    is_folder, on_folder = stat.S_ISDIR(mode), stat.S_ISDIR(before)
    if is_folder:
        with open_folder(*new) as inside:
            set_mode(inside, stat.S_IMODE(mode) | OWNERS)  # else only root could move it, or what is in it
    if is_folder and on_folder:
        with open_folder(*new) as inside, open_folder(*final) as there:
            for child in sorted(os.listdir(inside)):  # noqa: PTH208  by its descriptor
                _put((child, inside), (child, there), told / child)
    elif is_folder and before:
        raise B2dError(f"{told} is there, and no folder")
    elif on_folder:
        raise B2dError(f"{told} is a folder, and a file should take its place")
    else:
        (name, here), (target, there_too) = entry_names(*new, "src_dir_fd"), entry_names(*final, "dst_dir_fd")
        os.replace(name, target, **here, **there_too)  # noqa: PTH105
        if is_folder:
            with open_folder(*final) as there:
                set_mode(there, stat.S_IMODE(mode))


def _mode(place: tuple[str, Folder]) -> int:
    """What lies there, 0 where nothing does; of a link its own."""
    name, where = entry_names(*place)
    try:
        return os.stat(name, follow_symlinks=False, **where).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return 0
