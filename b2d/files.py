"""Files: ours are written whole, others' are read as they are, and folders that hold secrets are closed to others."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from b2d.errors import B2dError, DownloadFailed

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def refusals_told(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a B2dError that names the file; `path` where the system names none."""
    try:
        yield
    except OSError as error:
        named = error.filename2 or error.filename or path  # of a rename, the name that was to be
        raise B2dError(f"{named}: {error.strerror or error}") from error


def check_room(folder: Path, needed: int) -> None:
    """Raise DownloadFailed unless so many more bytes fit there."""
    if _free(folder) < needed:
        raise no_room(folder, needed)


def no_room(folder: Path, needed: int) -> DownloadFailed:
    """What to raise where they do not, or did not: 0 is a number that nobody knows."""
    free = _free(folder) / (1 << 20)
    wanted = f"{needed / (1 << 20):.1f} MiB ({needed} bytes)" if needed else "more"
    hint = "make room, then go on with the same command"
    return DownloadFailed(f"{folder} has {free:.1f} MiB free, and {wanted} are needed", hint=hint)


def _free(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free


def text_of(path: Path) -> str:
    """What another program wrote there, undecodable bytes replaced; "" where nothing can be read."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put `content` at `path` so that a reader, or a power cut, sees the old file or the new one, never a part.

    The file has `mode` from its first byte on, whatever the umask. Raises OSError; nothing is left behind then.
    """
    import tempfile

    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def private_folder(path: Path) -> Path:
    """Make `path`, and what is missing above it, readable by its owner alone; return it."""
    if not path.is_dir():
        private_folder(path.parent)  # not by mkdir's `parents`: it leaves those open to others
        path.mkdir(mode=0o700, exist_ok=True)
    return path
