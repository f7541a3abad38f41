"""Files: atomic writes, bounded reads, and folders with secrets that only their owner can access."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from b2d.errors import B2dError, ConfigError, DownloadError

FULL = (errno.ENOSPC, errno.EDQUOT)
FILE_LIMIT = 16 << 20  # bytes of a file that is read whole; machine.json, keys and settings have a few KiB
TEXT_LIMIT = 4 << 20  # bytes from the end of another program's log
WRITE_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularFileError(OSError):
    """A path with something other than a file."""

    def __init__(self, path: Path, mode: int) -> None:
        """Create the error for a path and its mode."""
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        super().__init__(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"it is {kind}, not a file", str(path))


class FileTooLargeError(OSError):
    """A file that is larger than its reader accepts."""

    def __init__(self, path: Path, limit: int) -> None:
        """Create the error for a path and its limit in bytes."""
        super().__init__(errno.EFBIG, f"it is larger than {limit} bytes", str(path))


@contextmanager
def os_errors_as_b2d_errors(path: Path) -> Iterator[None]:
    """Translate an OSError to a B2dError with the file's name, by default `path`."""
    try:
        yield
    except OSError as error:
        named = error.filename2 or error.filename or path  # of a rename, the target
        raise B2dError(f"{named}: {error.strerror or error}") from error


def check_space(folder: Path, needed: int) -> None:
    """Raise DownloadError unless the folder's disk has `needed` bytes free."""
    if _free(folder) < needed:
        raise no_space_error(folder, needed)


def no_space_error(folder: Path, needed: int) -> DownloadError:
    """Return the error for a full disk; 0 stands for an unknown need."""
    free = _free(folder) / (1 << 20)
    amount = f"{needed / (1 << 20):.1f} MiB ({needed} bytes)" if needed else "more"
    hint = "make room, then run the same command again"
    return DownloadError(f"{folder} has {free:.1f} MiB free, and {amount} are needed", hint=hint)


def _free(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free


def allocated_bytes(path: Path) -> int:
    """Return a file's allocated bytes, fewer than its size where it is sparse; 0 for a missing file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    return status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size  # st_blocks is missing on Windows


def folder_bytes(folder: Path) -> int:
    """Return the allocated bytes of the files in a folder; 0 for a missing one. Raises OSError."""
    return sum(map(allocated_bytes, folder.iterdir())) if folder.is_dir() else 0


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; never wait for a writer or touch a device.

    Raises NotRegularFileError for a folder, FIFO, socket or device, and OSError.
    """
    mode = path.stat().st_mode  # before opening, which may have effects on a device
    if not stat.S_ISREG(mode):
        raise NotRegularFileError(path, mode)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):  # it was replaced meanwhile
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
    """Return the last `limit` bytes of another program's text, undecodable ones replaced; "" on failure."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def hash_of(path: Path) -> str:
    """Return the file's sha256 in hexadecimal."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes | BinaryIO, mode: int = 0o600) -> None:
    """Write `content` to `path` atomically: a reader, or a power cut, sees the old or the new file.

    The complete file gets `mode`, whatever the umask. A guest may share the folder, and replace the new file by a link:
    no other file is then written or gets the mode. Raises OSError, and leaves nothing behind then.
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
            if hasattr(os, "fchmod"):  # Windows has no modes
                os.fchmod(file.fileno(), mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_owner(home: Path) -> None:
    """Raise ConfigError for a home of another user, where root's files would be unusable for its owner.

    Removes write access of others from a home of this user: replacing a file there would give the owner's rights.
    """
    if not hasattr(os, "geteuid") or not home.is_dir():
        return
    status = home.stat()
    if status.st_uid == os.geteuid():
        if status.st_mode & WRITE_OF_OTHERS and not status.st_mode & stat.S_ISVTX:  # a folder like /tmp is not b2d's
            with suppress(OSError):  # a file system without modes: doctor reports it
                home.chmod(stat.S_IMODE(status.st_mode) & ~WRITE_OF_OTHERS)
        return
    hint = (
        f"sudo -u '#{status.st_uid}' b2d, or set B2D_HOME" if status.st_uid else "set B2D_HOME, or give it to this user"
    )
    raise ConfigError(f"{home} belongs to another user (uid {status.st_uid}) and cannot be changed", hint=hint)


def is_of_others(path: Path) -> bool:
    """Return whether another user than this one and root owns or can replace a file. Raises OSError."""
    if not hasattr(os, "geteuid"):
        return False
    statuses = [place.stat() for place in (path, path.parent, path.resolve().parent)]
    return any(status.st_uid not in (os.geteuid(), 0) or status.st_mode & WRITE_OF_OTHERS for status in statuses)


def can_be_written_by_others(status: os.stat_result) -> bool:
    """Return whether another user than this one and root may write a file, except a private group."""
    if not hasattr(os, "geteuid"):
        return False
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private_group(status.st_gid)


def _is_private_group(gid: int) -> bool:
    """Return whether the group is the user's own: of the same name, and without other members."""
    import grp
    import pwd

    try:
        group = grp.getgrgid(gid)
        return group.gr_name == pwd.getpwuid(os.geteuid()).pw_name and not group.gr_mem
    except KeyError:
        return False


def is_regular(path: Path) -> bool:
    """Return whether there is a regular file, or a link to one; False also where access is denied."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_own(path: Path, home: Path) -> bool:
    """Return whether the path is `home`, or this user's regular file or folder in it; links are not."""
    try:
        status = path.lstat()
        is_inside = path == home or path.parent.resolve().is_relative_to(home.resolve())
    except OSError:
        return False
    is_owned = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return is_inside and is_owned and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def open_to_write(path: Path, disposition: int = os.O_APPEND) -> int:
    """Open a file to append, or to overwrite (O_TRUNC), for its owner only, and return the descriptor.

    Links are not followed, and a FIFO's reader not awaited. Raises NotRegularFileError and OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | disposition | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o600)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotRegularFileError(path, mode)
    return descriptor


def private_folder(path: Path) -> Path:
    """Create `path` and missing parents for their owner only, and return it."""
    if not path.is_dir():
        private_folder(path.parent)  # mkdir's `parents` would leave those accessible to others
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)  # the umask may have removed even the owner's rights
    return path
