"""Unpack a tar stream of any origin on this host: into one folder, and never through a link."""

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
PERMISSIONS = 0o777  # setuid, setgid and sticky bits are not taken from a guest


class Unpacker:
    """Unpacks the entries below `top` of an archive at `root`, which does not exist yet.

    Links are created last, so that nothing can be written through one.
    """

    def __init__(self, root: Path, top: str, advance: Callable[[int], None], warn: OnSkipped) -> None:
        """Create an unpacker; `advance` gets the bytes of content, `warn` a sentence for skipped entries."""
        self._root = root
        self._top = top
        self._advance = advance
        self._skipped = SkippedEntries(warn)
        self._deferred = DeferredLinks()
        self._links: list[tuple[str, str]] = []
        self._folders: list[tuple[str, int, float]] = []  # with mode and mtime
        self.files = 0

    def unpack(self, archive: TarFile) -> None:
        """Unpack all entries. Raises OSError, TarError, and B2dError for a path that leads outside."""
        with open_folder(str(self._root.parent)) as base:
            for entry in entries(archive):
                self._unpack_entry(archive, entry, base)
            for path, target in self._links:
                with parent_of(path, base) as (folder, name):
                    link, arguments = entry_names(name, folder)
                    os.symlink(target, link, dir_fd=arguments.get("dir_fd"))
            for path, mode, mtime in reversed(self._folders):
                with parent_of(path, base) as (folder, name), open_folder(name, folder) as inner:
                    set_mode(inner, mode & PERMISSIONS)
                    os.utime(inner, (mtime, mtime))

    def _unpack_entry(self, archive: TarFile, entry: TarInfo, base: Folder) -> None:
        path = self._path(entry.name)
        with parent_of(path, base) as (folder, last):
            name, arguments = entry_names(last, folder)
            if entry.isdir():
                self._deferred.add(path)
                os.mkdir(name, OWNERS, **arguments)  # noqa: PTH102
                self._folders.append((path, entry.mode, entry.mtime))
            elif entry.issym():
                self._deferred.add(path, entry.linkname)
                self._links.append((path, entry.linkname))
            elif entry.islnk():
                self._link(self._path(entry.linkname), base, (last, folder))
            elif entry.isreg():
                content = archive.extractfile(entry)
                assert content is not None
                self._write(content, entry, os.open(name, NEW, 0o600, **arguments))
                if not BY_DESCRIPTOR:
                    os.utime(name, (entry.mtime, entry.mtime))
            else:
                self._skipped.add(entry.name)
                return
        self.files += not entry.isdir()

    def _link(self, source: str, base: Folder, place: tuple[str, Folder]) -> None:
        name, target_fd = entry_names(*place, "dst_dir_fd")
        with parent_of(source, base) as (folder, last):
            linked, source_fd = entry_names(last, folder, "src_dir_fd")
            os.link(linked, name, **source_fd, **target_fd, follow_symlinks=not BY_DESCRIPTOR)

    def _write(self, content: IO[bytes], entry: TarInfo, descriptor: int) -> None:
        with os.fdopen(descriptor, "wb") as file:
            self._copy(content, file)
            file.flush()
            if BY_DESCRIPTOR:
                os.fchmod(descriptor, entry.mode & PERMISSIONS)
                os.utime(descriptor, (entry.mtime, entry.mtime))

    def _copy(self, content: IO[bytes], file: IO[bytes]) -> None:
        while chunk := content.read(CHUNK):
            file.write(chunk)
            self._advance(len(chunk))

    def _path(self, name: str) -> str:
        """Return the entry's path below the parent of the root. Raises B2dError for one outside."""
        path = inner_path(name)
        if self._top and path != self._top and not path.startswith(f"{self._top}/"):
            raise B2dError(f"the archive has a path that leads outside: {name!r}")
        below = path[len(self._top) :].strip("/")
        return f"{self._root.name}/{below}" if below else self._root.name


@contextmanager
def remove_unfinished(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder in `folder`, and remove it with all its content afterwards."""
    temporary = Path(tempfile.mkdtemp(prefix=".b2d-", dir=folder))
    with open_folder(str(temporary)) as opened:
        try:
            yield temporary
        finally:
            make_accessible(opened, OWNERS)  # read-only folders must be removed too
            remove_all(opened)
            with suppress(NotADirectoryError, FileNotFoundError):  # it was moved, or replaced by a link
                temporary.rmdir()


def final_path(typed: str, name: str, *, many: bool) -> tuple[Path, Path]:
    """Return the target of a copy called `name`, and the folder where it is created, as for cp. Raises B2dError.

    A link is followed only as the typed path itself.
    """
    path = Path(typed)
    if path.is_dir():
        return (path / name if name else path), path
    if many:
        raise B2dError(f"{typed} is not a folder, but there are several sources")
    final = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not final.parent.is_dir():
        raise B2dError(f"the folder {final.parent} does not exist", hint=f"mkdir -p {shlex.quote(str(final.parent))}")
    return final, final.parent


def place_file(new: Path, final: Path) -> None:
    """Move a copy to its target; into an existing folder its content is merged, as by cp -a.

    Raises OSError and B2dError.
    """
    with open_folder(str(new.parent)) as source, open_folder(os.path.realpath(final.parent)) as target:
        _put((new.name, source), (final.name, target), final)


def _put(new: tuple[str, Folder], final: tuple[str, Folder], path: Path) -> None:
    mode, before = _mode(new), _mode(final)
    is_folder, replaces_folder = stat.S_ISDIR(mode), stat.S_ISDIR(before)
    if is_folder:
        with open_folder(*new) as inside:
            set_mode(inside, stat.S_IMODE(mode) | OWNERS)  # without write access only root could move it or its content
    if is_folder and replaces_folder:
        with open_folder(*new) as inside, open_folder(*final) as target_folder:
            for child in sorted(os.listdir(inside)):  # noqa: PTH208  by its descriptor
                _put((child, inside), (child, target_folder), path / child)
    elif is_folder and before:
        raise B2dError(f"{path} exists and is not a folder")
    elif replaces_folder:
        raise B2dError(f"{path} is a folder and cannot be replaced by a file")
    else:
        (name, source_fd), (target, target_fd) = entry_names(*new, "src_dir_fd"), entry_names(*final, "dst_dir_fd")
        os.replace(name, target, **source_fd, **target_fd)  # noqa: PTH105
        if is_folder:
            with open_folder(*final) as moved:
                set_mode(moved, stat.S_IMODE(mode))


def _mode(place: tuple[str, Folder]) -> int:
    """Return the mode of an entry, of a link its own; 0 for none."""
    name, arguments = entry_names(*place)
    try:
        return os.stat(name, follow_symlinks=False, **arguments).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return 0
