"""Files of this host, or of another archive, as a stream of tar that every tar reads."""

import copy
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tarfile import (
    BLOCKSIZE,
    DIRTYPE,
    GNU_FORMAT,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    GNUTYPE_SPARSE,
    LNKTYPE,
    REGTYPE,
    SOLARIS_XHDTYPE,
    SYMTYPE,
    XGLTYPE,
    XHDTYPE,
    TarFile,
    TarInfo,
)
from typing import IO

from b2d.errors import B2dError
from b2d.host.dir_fds import Folder, entry_names, open_folder, parent_of
from b2d.host.files import NotRegularFileError

CHUNK = 1 << 17  # bytes
ENCODING, ERRORS = "utf-8", "surrogateescape"
OWNERS = 0o700  # what a folder must allow while it is filled
KEPT = (REGTYPE, DIRTYPE, SYMTYPE, LNKTYPE)
DESCRIPTIONS = (GNUTYPE_LONGNAME, GNUTYPE_LONGLINK, XHDTYPE, XGLTYPE, SOLARIS_XHDTYPE)  # of the entry behind them
DESCRIPTION_LIMIT = 32 << 10  # bytes; a path has at most 4096
PATH_LIMIT = 4095  # bytes of a path, or of what a link points to; Linux takes no more
DEFERRED_LIMIT = 256 << 20  # bytes of memory for what can only be made when all else is there
DEFERRED_EACH = 512  # of them for a link or a folder, beside its names
MAX_REPORTED = 20  # of what was left out; an archive may have any number
DEPTH_LIMIT = 256  # of folders; each of them is open at once where files are reached by descriptors
HOLES = "the archive has a file with holes, which is not unpacked: {!r}"
HOLES_HINT = "tar -c without -S or --sparse"
NO_LINK, NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)
READ = os.O_RDONLY | NO_LINK | NO_WAIT | getattr(os, "O_BINARY", 0)
Place = tuple[str, Folder]  # a name in an open folder
Writer = Callable[[bytes], object]
OnSkipped = Callable[[str], None]


class ForeignEntry(TarInfo):
    """An entry of somebody else's archive: what stands before it is small, and it holds what the archive carries.

    A file with holes says of a few bytes that they are as many as it likes, so it is refused.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "ForeignEntry":
        found = super().frombuf(buf, encoding, errors)
        if found.type == GNUTYPE_SPARSE:
            raise B2dError(HOLES.format(found.name), hint=HOLES_HINT)
        if found.type in DESCRIPTIONS and not 0 <= found.size <= DESCRIPTION_LIMIT:
            raise B2dError(f"the archive describes an entry in {found.size} bytes, which is too much")
        if found.size < 0:
            raise B2dError(f"the archive has a file of {found.size} bytes: {found.name}")
        return found

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> "ForeignEntry":
        found = super().fromtarfile(tarfile)
        if found.issparse():  # in the manner of POSIX
            raise B2dError(HOLES.format(found.name), hint=HOLES_HINT)
        if max(len(name.encode(ENCODING, ERRORS)) for name in (found.name, found.linkname)) > PATH_LIMIT:
            raise B2dError(f"the archive has a path of more than {PATH_LIMIT} bytes")
        return found


class DeferredLinks:
    """Counts what the links and folders of an archive take of memory until all else is there."""

    def __init__(self) -> None:
        self._left = DEFERRED_LIMIT

    def add(self, *names: str) -> None:
        """Raises B2dError for one too many."""
        self._left -= DEFERRED_EACH + sum(len(name.encode(ENCODING, ERRORS)) for name in names)
        if self._left < 0:
            raise B2dError(
                "these are too many links and folders for one copy", hint="copy the folders in it one by one"
            )


class SkippedEntries:
    """Tells what is no file, folder or link; all of it is left out, and only the first few are named."""

    def __init__(self, told: OnSkipped) -> None:
        self._told = told
        self._count = 0

    def add(self, name: str | Path) -> None:
        self._count += 1
        if self._count <= MAX_REPORTED:
            self._told(f"{name} is no file, folder or link, and was left out")
        elif self._count == MAX_REPORTED + 1:
            self._told("more that is no file, folder or link is left out")


class OwnEntry(TarInfo):
    """An entry of a file of this host."""

    inode: tuple[int, int]  # with the device's number: which file it is, whatever lies at its path later


class Packer:
    """Writes entry by entry. A folder gets its own mode last: one that allows no writing could not be filled."""

    def __init__(self, write: Writer, advance: Callable[[int], None]) -> None:
        self._write = write
        self._advance = advance
        self._folders: list[TarInfo] = []
        self.files = 0

    def put(self, entry: TarInfo, content: IO[bytes] | None = None) -> None:
        """Raises B2dError where `content` is shorter than the entry says."""
        if entry.isdir():
            self._folders.append(entry)
            entry = copy.copy(entry)
            entry.mode |= OWNERS
        self._write(entry.tobuf(GNU_FORMAT, ENCODING, ERRORS))
        if content is not None:
            self._content(entry, content)
        self.files += not entry.isdir()

    def end(self, mark: str) -> None:
        """The folders' modes, and an empty file of that name: who finds it has all."""
        for entry in reversed(self._folders):
            self._write(entry.tobuf(GNU_FORMAT, ENCODING, ERRORS))
        self._write(TarInfo(mark).tobuf(GNU_FORMAT, ENCODING, ERRORS) + bytes(2 * BLOCKSIZE))

    def _content(self, entry: TarInfo, content: IO[bytes]) -> None:
        left = entry.size
        while left:
            piece = content.read(min(CHUNK, left))
            if not piece:
                raise B2dError(f"{entry.name} became shorter while it was read", hint="the same command again")
            self._write(piece)
            self._advance(len(piece))
            left -= len(piece)
        self._write(bytes(-entry.size % BLOCKSIZE))


def listed(root: Path, name: str, told: OnSkipped) -> list[tuple[Path, OwnEntry]]:
    """`root` and all that is in it, links as such, called `name`; what is neither file, folder nor link is told.

    Raises OSError for what cannot be looked at.
    """
    seen: dict[tuple[int, int], str] = {}
    found, left_out = [], SkippedEntries(told)
    with open_folder(os.path.realpath(root.parent)) as base:
        for path, inside, place in _walk(root, name, (root.name or ".", base)):
            with _told_of(path):
                entry = _entry(place, inside, seen)
            if entry is None:
                left_out.add(path)
            else:
                found.append((path, entry))
    return found


def _walk(path: Path, name: str, place: Place) -> Iterator[tuple[Path, str, Place]]:
    yield path, name, place
    with ExitStack() as inside:
        with _told_of(path):
            if not stat.S_ISDIR(_status(place).st_mode):
                return
            folder = inside.enter_context(open_folder(*place))
            children = sorted(os.listdir(folder))  # noqa: PTH208  by its descriptor
        for child in children:
            yield from _walk(path / child, f"{name}/{child}", (child, folder))


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Have an error name the whole path, and not what the system was asked of."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _status(place: Place) -> os.stat_result:
    name, where = entry_names(*place)
    return os.stat(name, follow_symlinks=False, **where)  # noqa: PTH116


def _entry(place: Place, name: str, seen: dict[tuple[int, int], str]) -> OwnEntry | None:
    facts = _status(place)
    entry = OwnEntry(name)
    entry.mode, entry.mtime = stat.S_IMODE(facts.st_mode), int(facts.st_mtime)
    inode = entry.inode = (facts.st_dev, facts.st_ino)
    if stat.S_ISDIR(facts.st_mode):
        entry.type = DIRTYPE
    elif stat.S_ISLNK(facts.st_mode):
        it, where = entry_names(*place)
        entry.type, entry.linkname = SYMTYPE, os.readlink(it, **where)
    elif not stat.S_ISREG(facts.st_mode):
        return None
    elif facts.st_nlink > 1 and inode in seen:
        entry.type, entry.linkname = LNKTYPE, seen[inode]
    else:
        entry.size = facts.st_size
        if facts.st_nlink > 1:
            seen[inode] = name
    return entry


def pack(entries: list[tuple[Path, OwnEntry]], packer: Packer) -> None:
    """Write them with what they hold, the first of which is the root of all. Raises OSError for what cannot be read.

    Nothing is read through a link: a guest that shares the folder may put one there after it was listed.
    """
    root = entries[0][0]
    with open_folder(os.path.realpath(root.parent)) as base:
        for path, entry in entries:
            if entry.isreg():
                below = "/".join([root.name or ".", *path.relative_to(root).parts])
                with _told_of(path), parent_of(below, base) as (folder, last):
                    content = os.fdopen(_descriptor(path, last, folder), "rb")
                with content:
                    found = os.fstat(content.fileno())
                    if (found.st_dev, found.st_ino) != entry.inode:
                        raise B2dError(f"{path} became another file while it was read", hint="the same command again")
                    packer.put(entry, content)
            else:
                packer.put(entry)


def _descriptor(path: Path, last: str, folder: Folder) -> int:
    """Open a file to read it, and no link; never wait for a writer. Raises NotRegularFileError and OSError."""
    name, where = entry_names(last, folder)
    mode = os.stat(name, follow_symlinks=False, **where).st_mode  # noqa: PTH116  to open a device may do something
    if not stat.S_ISREG(mode):
        raise NotRegularFileError(path, mode)
    descriptor = os.open(name, READ, **where)
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularFileError(path, mode)
    return descriptor


def entries(archive: TarFile) -> Iterator[TarInfo]:
    """Yield what is in a stream, entry by entry, and keep none: there may be any number. Raises TarError."""
    for entry in archive:
        # it would remember them all, and what is said of all that follows, which may be any number of things
        archive.members.clear()  # type: ignore[attr-defined]
        archive.pax_headers.clear()  # type: ignore[attr-defined]
        yield entry


def repack(archive: TarFile, name: str, packer: Packer, told: OnSkipped) -> None:
    """Write the entries of another archive below `name`. Raises B2dError for one that leads outside, or TarError."""
    packer.put(_folder(name))
    later, left_out = DeferredLinks(), SkippedEntries(told)
    for entry in entries(archive):
        path = inner_path(entry.name)
        kind = REGTYPE if entry.isreg() else entry.type
        if kind not in KEPT:
            left_out.add(entry.name)
        elif path:
            if entry.isdir():
                later.add(path)
            plain = TarInfo(f"{name}/{path}")
            plain.type, plain.mode, plain.mtime, plain.size = kind, entry.mode, int(entry.mtime), entry.size
            plain.linkname = f"{name}/{inner_path(entry.linkname)}" if entry.islnk() else entry.linkname
            packer.put(plain, archive.extractfile(entry) if entry.isreg() else None)


def _folder(name: str) -> TarInfo:
    entry = TarInfo(name)
    entry.type, entry.mode = DIRTYPE, 0o755
    return entry


def inner_path(path: str) -> str:
    """A path of an archive below the folder that it is unpacked in; "" for that itself. Raises B2dError for others."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path or (os.sep != "/" and any(sign in path for sign in "\\:")):
        raise B2dError(f"the archive has a path that leads outside: {path!r}")
    if len(parts) > DEPTH_LIMIT:
        raise B2dError(f"the archive has {len(parts)} folders one in another, which is too much")
    return "/".join(parts)
