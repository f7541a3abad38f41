"""Write files of this host, or entries of another archive, as a tar stream that every tar reads."""

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
OWNERS = 0o700  # the mode that a folder needs while it is filled
SUPPORTED = (REGTYPE, DIRTYPE, SYMTYPE, LNKTYPE)
DESCRIPTIONS = (GNUTYPE_LONGNAME, GNUTYPE_LONGLINK, XHDTYPE, XGLTYPE, SOLARIS_XHDTYPE)  # of the next entry
DESCRIPTION_LIMIT = 32 << 10  # bytes; a path has at most 4096
PATH_LIMIT = 4095  # bytes of a path or of a link's target, the limit of Linux
DEFERRED_LIMIT = 256 << 20  # bytes of memory for entries that are created last
DEFERRED_EACH = 512  # bytes for a link or folder, beside its names
MAX_REPORTED = 20  # skipped entries; an archive may have any number
DEPTH_LIMIT = 256  # nested folders; all are open at once where files are accessed by descriptors
HOLES = "the archive has a sparse file, which is not supported: {!r}"
HOLES_HINT = "create it without tar's -S or --sparse"
NO_LINK, NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)
READ = os.O_RDONLY | NO_LINK | NO_WAIT | getattr(os, "O_BINARY", 0)
Place = tuple[str, Folder]  # a name in an open folder
Writer = Callable[[bytes], object]
OnSkipped = Callable[[str], None]


class ForeignEntry(TarInfo):
    """An entry of a foreign archive with small metadata, whose content is in the archive.

    A sparse file of a few bytes may claim any size, so it is refused.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "ForeignEntry":
        """Parse an entry's header. Raises B2dError for a sparse file, or one beyond the limits."""
        entry = super().frombuf(buf, encoding, errors)
        if entry.type == GNUTYPE_SPARSE:
            raise B2dError(HOLES.format(entry.name), hint=HOLES_HINT)
        if entry.type in DESCRIPTIONS and not 0 <= entry.size <= DESCRIPTION_LIMIT:
            raise B2dError(
                f"the archive has {entry.size} bytes of metadata for an entry, more than {DESCRIPTION_LIMIT}"
            )
        if entry.size < 0:
            raise B2dError(f"the archive has a file of {entry.size} bytes: {entry.name}")
        return entry

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> "ForeignEntry":
        """Read the next entry. Raises B2dError for a sparse file, or too long a path."""
        entry = super().fromtarfile(tarfile)
        if entry.issparse():  # in POSIX format
            raise B2dError(HOLES.format(entry.name), hint=HOLES_HINT)
        if max(len(name.encode(ENCODING, ERRORS)) for name in (entry.name, entry.linkname)) > PATH_LIMIT:
            raise B2dError(f"the archive has a path of more than {PATH_LIMIT} bytes")
        return entry


class DeferredLinks:
    """The memory for the links and folders of an archive that are created last."""

    def __init__(self) -> None:
        """Start with the full allowance."""
        self._left = DEFERRED_LIMIT

    def add(self, *names: str) -> None:
        """Count an entry. Raises B2dError for one too many."""
        self._left -= DEFERRED_EACH + sum(len(name.encode(ENCODING, ERRORS)) for name in names)
        if self._left < 0:
            raise B2dError("the copy has too many links and folders", hint="copy the folders in it one by one")


class SkippedEntries:
    """Warnings of entries that are not files, folders or links; only the first few are named."""

    def __init__(self, warn: OnSkipped) -> None:
        """Pass warnings to `warn`."""
        self._warn = warn
        self._count = 0

    def add(self, name: str | Path) -> None:
        """Warn of a skipped entry."""
        self._count += 1
        if self._count <= MAX_REPORTED:
            self._warn(f"{name} is not a file, folder or link and was skipped")
        elif self._count == MAX_REPORTED + 1:
            self._warn("more entries that are not files, folders or links were skipped")


class OwnEntry(TarInfo):
    """An entry for a file of this host."""

    inode: tuple[int, int]  # with the device: the identity of the file, even if its path is replaced


class Packer:
    """Writes a tar stream. A folder gets its mode and time at the end: a read-only one could not be filled."""

    def __init__(self, write: Writer, advance: Callable[[int], None]) -> None:
        """Write to `write`; `advance` gets the bytes of content."""
        self._write = write
        self._advance = advance
        self._folders: list[TarInfo] = []
        self.files = 0

    def put(self, entry: TarInfo, content: IO[bytes] | None = None) -> None:
        """Write an entry. Raises B2dError where `content` is shorter than the entry's size."""
        if entry.isdir():
            self._folders.append(entry)
            entry = copy.copy(entry)
            entry.mode |= OWNERS
        self._write(entry.tobuf(GNU_FORMAT, ENCODING, ERRORS))
        if content is not None:
            self._content(entry, content)
        self.files += not entry.isdir()

    def end(self, mark: str) -> None:
        """Write a file called `mark`, which shows that the stream is complete, and holds the folders' modes and times.

        It is an archive of its own, to be unpacked last: busybox's tar creates links that lead outside when it has
        unpacked all else, which needs their folder to be writable, and changes its time.
        """
        whole = TarInfo(mark)
        whole.size = sum(len(header) for header in self._folder_headers()) + 2 * BLOCKSIZE
        self._write(whole.tobuf(GNU_FORMAT, ENCODING, ERRORS))
        for header in self._folder_headers():
            self._write(header)
        self._write(bytes(2 * BLOCKSIZE))  # the end of that archive, and of this one
        self._write(bytes(2 * BLOCKSIZE))

    def _folder_headers(self) -> Iterator[bytes]:
        for entry in reversed(self._folders):
            yield entry.tobuf(GNU_FORMAT, ENCODING, ERRORS)

    def _content(self, entry: TarInfo, content: IO[bytes]) -> None:
        remaining = entry.size
        while remaining:
            chunk = content.read(min(CHUNK, remaining))
            if not chunk:
                raise B2dError(f"{entry.name} became shorter while it was read", hint="run the same command again")
            self._write(chunk)
            self._advance(len(chunk))
            remaining -= len(chunk)
        self._write(bytes(-entry.size % BLOCKSIZE))


def list_entries(root: Path, name: str, warn: OnSkipped) -> list[tuple[Path, OwnEntry]]:
    """Return `root` and all that is in it, links as such, under the name `name`; other kinds are skipped.

    Raises OSError for a file that cannot be read.
    """
    hard_links: dict[tuple[int, int], str] = {}
    listing, skipped = [], SkippedEntries(warn)
    with open_folder(os.path.realpath(root.parent)) as base:
        for path, inside, place in _walk(root, name, (root.name or ".", base)):
            with _errors_with_path(path):
                entry = _make_entry(place, inside, hard_links)
            if entry is None:
                skipped.add(path)
            else:
                listing.append((path, entry))
    return listing


def _walk(path: Path, name: str, place: Place) -> Iterator[tuple[Path, str, Place]]:
    yield path, name, place
    with ExitStack() as inside:
        with _errors_with_path(path):
            if not stat.S_ISDIR(_status(place).st_mode):
                return
            folder = inside.enter_context(open_folder(*place))
            children = sorted(os.listdir(folder))  # noqa: PTH208  by its descriptor
        for child in children:
            yield from _walk(path / child, f"{name}/{child}", (child, folder))


@contextmanager
def _errors_with_path(path: Path) -> Iterator[None]:
    """Set the whole path as the file name of an OSError, in place of the relative one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _status(place: Place) -> os.stat_result:
    name, arguments = entry_names(*place)
    return os.stat(name, follow_symlinks=False, **arguments)  # noqa: PTH116


def _make_entry(place: Place, name: str, hard_links: dict[tuple[int, int], str]) -> OwnEntry | None:
    status = _status(place)
    entry = OwnEntry(name)
    entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    inode = entry.inode = (status.st_dev, status.st_ino)
    if stat.S_ISDIR(status.st_mode):
        entry.type = DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        link, arguments = entry_names(*place)
        entry.type, entry.linkname = SYMTYPE, os.readlink(link, **arguments)
    elif not stat.S_ISREG(status.st_mode):
        return None
    elif status.st_nlink > 1 and inode in hard_links:
        entry.type, entry.linkname = LNKTYPE, hard_links[inode]
    else:
        entry.size = status.st_size
        if status.st_nlink > 1:
            hard_links[inode] = name
    return entry


def pack(entries: list[tuple[Path, OwnEntry]], packer: Packer) -> None:
    """Write entries with their content, the first of which is the root. Raises OSError for unreadable files.

    Nothing is read through a link: a guest that shares the folder may put one there after it was listed.
    """
    root = entries[0][0]
    with open_folder(os.path.realpath(root.parent)) as base:
        for path, entry in entries:
            if entry.isreg():
                below = "/".join([root.name or ".", *path.relative_to(root).parts])
                with _errors_with_path(path), parent_of(below, base) as (folder, last):
                    content = os.fdopen(_open_file(path, last, folder), "rb")
                with content:
                    status = os.fstat(content.fileno())
                    if (status.st_dev, status.st_ino) != entry.inode:
                        raise B2dError(f"{path} was replaced while it was read", hint="run the same command again")
                    packer.put(entry, content)
            else:
                packer.put(entry)


def _open_file(path: Path, last: str, folder: Folder) -> int:
    """Open a file without following links or waiting. Raises NotRegularFileError and OSError."""
    name, arguments = entry_names(last, folder)
    mode = os.stat(name, follow_symlinks=False, **arguments).st_mode  # noqa: PTH116  opening a device may have effects
    if not stat.S_ISREG(mode):
        raise NotRegularFileError(path, mode)
    descriptor = os.open(name, READ, **arguments)
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularFileError(path, mode)
    return descriptor


def entries(archive: TarFile) -> Iterator[TarInfo]:
    """Yield the entries of a stream without storing them: there may be any number. Raises TarError."""
    for entry in archive:
        # tarfile would store them all, and all global headers, without limit
        archive.members.clear()  # type: ignore[attr-defined]
        archive.pax_headers.clear()  # type: ignore[attr-defined]
        yield entry


def repack(archive: TarFile, name: str, packer: Packer, warn: OnSkipped) -> None:
    """Write the entries of another archive below `name`. Raises B2dError for an unsafe path, and TarError."""
    packer.put(_folder(name))
    deferred, skipped = DeferredLinks(), SkippedEntries(warn)
    for entry in entries(archive):
        path = inner_path(entry.name)
        kind = REGTYPE if entry.isreg() else entry.type
        if kind not in SUPPORTED:
            skipped.add(entry.name)
        elif path:
            if entry.isdir():
                deferred.add(path)
            plain = TarInfo(f"{name}/{path}")
            plain.type, plain.mode, plain.mtime, plain.size = kind, entry.mode, int(entry.mtime), entry.size
            plain.linkname = f"{name}/{inner_path(entry.linkname)}" if entry.islnk() else entry.linkname
            packer.put(plain, archive.extractfile(entry) if entry.isreg() else None)


def _folder(name: str) -> TarInfo:
    entry = TarInfo(name)
    entry.type, entry.mode = DIRTYPE, 0o755
    return entry


def inner_path(path: str) -> str:
    """Return a path of an archive relative to the target folder, "" for that itself. Raises B2dError for others."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path or (os.sep != "/" and any(character in path for character in "\\:")):
        raise B2dError(f"the archive has a path that leads outside: {path!r}")
    if len(parts) > DEPTH_LIMIT:
        raise B2dError(f"the archive has {len(parts)} nested folders, more than {DEPTH_LIMIT}")
    return "/".join(parts)
