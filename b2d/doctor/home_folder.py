"""Checks of the home: writable, with free space, on a local file system, and with its secrets protected."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.errors import ConfigError
from b2d.host.files import check_owner
from b2d.paths import Home

SPACE_NEEDED = 1 << 30  # bytes: packages, an image, and a first disk
SPACE_WANTED = 5 << 30
TEMPORARY_NEEDED = 64 << 20  # for the temporary files of libraries
REMOTE = ("nfs", "cifs", "smb", "afp", "9p", "fuse.sshfs", "davfs", "webdav", "ncpfs", "vboxsf", "fuse.vmhgfs")


def check_home(where: Home) -> Finding:
    """Check that the home is this user's and can be written."""
    root = where.root
    folder = find_existing(root)
    try:
        check_owner(root)  # before a test file is created in it
    except ConfigError as error:
        return warning("home", error.message, error.hint)
    if problem := _write_error(folder):
        return Finding("home", Verdict.BAD, f"{folder} cannot be written: {problem}", "set B2D_HOME")
    return ok("home", str(root))


def check_file_system(where: Home, kind_of: Callable[[Path], str]) -> Finding:
    """Check that the home is on a local file system: sockets and locks are unreliable on others."""
    kind = kind_of(find_existing(where.root))
    if kind.startswith(REMOTE):
        message = f"{where.root} is on {kind}, where sockets and locks may fail"
        return warning("file system", message, "set B2D_HOME to a folder on a local disk")
    return ok("file system", kind or "unknown")


def file_system_type(path: Path) -> str:
    """Return the type of the file system that contains `path`, "" when it is unknown."""
    import psutil

    try:
        mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    except OSError:
        return ""
    resolved = path.resolve()
    above = [(len(point), kind) for point, kind in mounts if resolved.is_relative_to(point)]
    return max(above, default=(0, ""))[1].lower()


def check_space(where: Home) -> Finding:
    """Check the free space for images and disks."""
    try:
        free = shutil.disk_usage(find_existing(where.root)).free
    except OSError as error:
        return Finding("disk space", Verdict.BAD, f"{where.root}: {error.strerror}", "set B2D_HOME")
    message = f"{free / (1 << 30):.1f} GiB free"
    if free < SPACE_WANTED:
        verdict = Verdict.BAD if free < SPACE_NEEDED else Verdict.DOUBTFUL
        return Finding("disk space", verdict, message, f"free space at {where.root}, or set B2D_HOME")
    return ok("disk space", message)


def check_temporary_folder() -> Finding:
    """Check the folder for temporary files."""
    try:
        folder = Path(tempfile.gettempdir())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return warning("temporary folder", f"there is none: {error.strerror}", "set TMPDIR to a folder of your own")
    if free < TEMPORARY_NEEDED:
        message = f"{folder} has only {free >> 20} MiB free"
        return warning("temporary folder", message, f"free space at {folder}, or set TMPDIR")
    return ok("temporary folder", str(folder))


def check_secrets(where: Home) -> Finding:
    """Check that other users cannot read the keys."""
    if os.name == "nt":
        return ok("secrets", "protected by the permissions of your user folder")
    open_files = tuple(path for path in _secret_files(where) if _is_open(path))
    if not open_files:
        return ok("secrets", "readable by you only")
    names = ", ".join(str(path) for path in open_files)
    return Finding("secrets", Verdict.BAD, f"other users may read {names}", "b2d doctor --fix", open_files=open_files)


def find_existing(path: Path) -> Path:
    """Return the folder itself, or the nearest existing one above it."""
    return next((folder for folder in (path, *path.parents) if os.path.exists(folder)), Path(path.anchor or "."))  # noqa: PTH110  pathlib's raises in an unreadable folder


def _write_error(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _secret_files(where: Home) -> Iterator[Path]:
    if not os.path.isdir(where.root):  # noqa: PTH112  as above
        return
    yield where.root
    try:
        folders = list(where.machines.iterdir()) if where.machines.is_dir() else []
    except OSError:
        return
    for folder in folders:
        if not folder.is_dir():
            continue  # lock files, which contain no secrets
        paths = where.machine(folder.name)
        yield from (paths.folder, paths.ssh_key, paths.host_key, paths.seed, paths.certs / "key.pem")
        yield from (paths.authority / "ca-key.pem", paths.authority / "server-key.pem")


def _is_open(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return not stat.S_ISLNK(mode) and mode & 0o077 != 0
