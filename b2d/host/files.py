"""Files: ours are written whole, others' are read as they are, and folders that hold secrets are closed to others."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from b2d.errors import B2dError, ConfigError, DownloadError

FULL = (errno.ENOSPC, errno.EDQUOT)
FILE_LIMIT = 16 << 20  # bytes of a file that is read whole; machine.json, keys and settings have some kilobytes
TEXT_LIMIT = 4 << 20  # bytes of another program's log, from its end
WRITE_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularFileError(OSError):
    """Something else than a file lies where a file should."""

    def __init__(self, path: Path, mode: int) -> None:
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        super().__init__(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"it is {kind}, not a file", str(path))


class FileTooLargeError(OSError):
    """A file has more bytes than its reader has a use for."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(errno.EFBIG, f"it is larger than {limit} bytes", str(path))


@contextmanager
def os_errors_as_b2d_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a B2dError that names the file; `path` where the system names none."""
    try:
        yield
    except OSError as error:
        named = error.filename2 or error.filename or path  # of a rename, the name that was to be
        raise B2dError(f"{named}: {error.strerror or error}") from error


def check_space(folder: Path, needed: int) -> None:
    """Raise DownloadError unless so many more bytes fit there."""
    if _free(folder) < needed:
        raise no_space_error(folder, needed)


def no_space_error(folder: Path, needed: int) -> DownloadError:
    """What to raise where they do not, or did not: 0 is a number that nobody knows."""
    free = _free(folder) / (1 << 20)
    wanted = f"{needed / (1 << 20):.1f} MiB ({needed} bytes)" if needed else "more"
    hint = "make room, then go on with the same command"
    return DownloadError(f"{folder} has {free:.1f} MiB free, and {wanted} are needed", hint=hint)


def _free(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free


def allocated_bytes(path: Path) -> int:
    """How many bytes of this host a file takes, which are fewer than its size where there are holes; none: 0."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size  # none on Windows


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; never wait for a writer or touch a device.

    Raises NotRegularFileError for a folder, FIFO, socket or device, and OSError.
    """
    mode = path.stat().st_mode  # before it is opened: to open a device may do something
    if not stat.S_ISREG(mode):
        raise NotRegularFileError(path, mode)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):  # it was exchanged meanwhile
        file.close()
        raise NotRegularFileError(path, mode)
    return file


def read_bounded(path: Path, limit: int = FILE_LIMIT) -> bytes:
    """Read a regular file of at most `limit` bytes. Raises NotRegularFileError, FileTooLargeError and OSError."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise FileTooLargeError(path, limit)
    return content


def read_text_tail(path: Path, limit: int = TEXT_LIMIT) -> str:
    """Read the last `limit` bytes that another program wrote, undecodable ones replaced; "" if that fails."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def write_atomic(path: Path, content: bytes | BinaryIO, mode: int = 0o600) -> None:
    """Put `content` at `path` so that a reader, or a power cut, sees the old file or the new one, never a part.

    The file has `mode`, whatever the umask, and not before it is whole. A guest may have that folder too, and put a
    link in the place of the new file: no other file is written then, and none gets the mode.
    Raises OSError; nothing is left behind then.
    """
    import shutil
    import tempfile

    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                shutil.copyfileobj(content, file)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "fchmod"):  # Windows has no mode
                os.fchmod(file.fileno(), mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_owner(home: Path) -> None:
    """Raise ConfigError for a home of somebody else's: what root makes there, its owner could not use any more.

    In one's own nobody else may write from now on: who can exchange a file there is its owner.
    """
    if not hasattr(os, "geteuid") or not home.is_dir():
        return
    found = home.stat()
    if found.st_uid == os.geteuid():
        if found.st_mode & WRITE_OF_OTHERS and not found.st_mode & stat.S_ISVTX:  # one such as /tmp is not b2d's
            with suppress(OSError):  # a file system without rights: doctor tells
                home.chmod(stat.S_IMODE(found.st_mode) & ~WRITE_OF_OTHERS)
        return
    hint = (
        f"sudo -u '#{found.st_uid}' b2d, or set B2D_HOME" if found.st_uid else "set B2D_HOME, or give it to this user"
    )
    raise ConfigError(f"{home} belongs to another user (uid {found.st_uid}), and can only be looked at", hint=hint)


def is_of_others(path: Path) -> bool:
    """Tell whether a file is, or could be exchanged by, anybody else's than this user's and root's. Raises OSError."""
    if not hasattr(os, "geteuid"):
        return False
    seen = [one.stat() for one in (path, path.parent, path.resolve().parent)]
    return any(one.st_uid not in (os.geteuid(), 0) or one.st_mode & WRITE_OF_OTHERS for one in seen)


def can_be_written_by_others(found: os.stat_result) -> bool:
    """Tell whether anybody but this user and root may write to a file; a group of this user alone does not count."""
    if not hasattr(os, "geteuid"):
        return False
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private_group(found.st_gid)


def _is_private_group(gid: int) -> bool:
    """One as many systems make for each user: of the same name, and without other members."""
    import grp
    import pwd

    try:
        group = grp.getgrgid(gid)
        return group.gr_name == pwd.getpwuid(os.geteuid()).pw_name and not group.gr_mem
    except KeyError:
        return False


def is_regular(path: Path) -> bool:
    """Tell whether there is a regular file, or a link to one; False too where nobody may look."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_own(path: Path, home: Path) -> bool:
    """True for a regular file or folder of this user's in `home`, and for `home` itself; a link is neither."""
    try:
        seen = path.lstat()
        inside = path == home or path.parent.resolve().is_relative_to(home.resolve())
    except OSError:
        return False
    owned = not hasattr(os, "geteuid") or seen.st_uid == os.geteuid()
    return inside and owned and (stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode))


def open_to_write(path: Path, how: int = os.O_APPEND) -> int:
    """Open a file for writing at its end, or anew (O_TRUNC), for its owner alone; return the descriptor.

    Neither follow a link nor wait for a reader. Raises NotRegularFileError and OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | how | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o600)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotRegularFileError(path, mode)
    return descriptor


def private_folder(path: Path) -> Path:
    """Make `path`, and what is missing above it, readable by its owner alone; return it."""
    if not path.is_dir():
        private_folder(path.parent)  # not by mkdir's `parents`: it leaves those open to others
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)  # of an odd umask, not even that is left
    return path
