"""The folder that all of b2d lies in: that it can be written, has room, is on this computer, and keeps its secrets."""

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
TEMPORARY_NEEDED = 64 << 20  # for what libraries put there
REMOTE = ("nfs", "cifs", "smb", "afp", "9p", "fuse.sshfs", "davfs", "webdav", "ncpfs", "vboxsf", "fuse.vmhgfs")


def home(where: Home) -> Finding:
    """That it can be written."""
    root = where.root
    folder = existing(root)
    try:
        check_owner(root)  # before a file is made there to see that it can be
    except ConfigError as error:
        return warning("home", error.message, error.hint)
    if problem := _refused(folder):
        return Finding("home", Verdict.BAD, f"{folder} cannot be written: {problem}", "set B2D_HOME")
    return ok("home", str(root))


def file_system(where: Home, kind_of: Callable[[Path], str]) -> Finding:
    """That it is on this computer: elsewhere neither sockets nor locks are to be relied on."""
    kind = kind_of(existing(where.root))
    if kind.startswith(REMOTE):
        message = f"{where.root} is on {kind}, where sockets and locks may fail"
        return warning("file system", message, "set B2D_HOME to a folder on a disk of this computer")
    return ok("file system", kind or "not known")


def kind_of(path: Path) -> str:
    """The type of the file system that holds it, "" where that is not known."""
    import psutil

    try:
        mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    except OSError:
        return ""
    resolved = path.resolve()
    above = [(len(point), kind) for point, kind in mounts if resolved.is_relative_to(point)]
    return max(above, default=(0, ""))[1].lower()


def space(where: Home) -> Finding:
    """Room for images and disks."""
    try:
        free = shutil.disk_usage(existing(where.root)).free
    except OSError as error:
        return Finding("disk space", Verdict.BAD, f"{where.root}: {error.strerror}", "set B2D_HOME")
    message = f"{free / (1 << 30):.1f} GiB free"
    if free < SPACE_WANTED:
        verdict = Verdict.BAD if free < SPACE_NEEDED else Verdict.DOUBTFUL
        return Finding("disk space", verdict, message, f"make room at {where.root}, or set B2D_HOME")
    return ok("disk space", message)


def temporary() -> Finding:
    """The folder for what is soon gone."""
    try:
        folder = Path(tempfile.gettempdir())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return warning("temporary folder", f"there is none: {error.strerror}", "set TMPDIR to a folder of yours")
    if free < TEMPORARY_NEEDED:
        message = f"{folder} has only {free >> 20} MiB free"
        return warning("temporary folder", message, f"make room at {folder}, or set TMPDIR")
    return ok("temporary folder", str(folder))


def secrets(where: Home) -> Finding:
    """That nobody else can read the keys."""
    if os.name == "nt":
        return ok("secrets", "kept by the rights of your own folder")
    open_files = tuple(path for path in _secret_files(where) if _is_open(path))
    if not open_files:
        return ok("secrets", "closed to others")
    names = ", ".join(str(path) for path in open_files)
    return Finding("secrets", Verdict.BAD, f"others may read {names}", "b2d doctor --fix", open_files=open_files)


def existing(path: Path) -> Path:
    """The folder itself, or the nearest above it that there is."""
    return next((folder for folder in (path, *path.parents) if os.path.exists(folder)), Path(path.anchor or "."))  # noqa: PTH110  pathlib's raises where a folder above may not be looked into


def _refused(folder: Path) -> str:
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
            continue  # the locks lie there too, and hold nothing
        paths = where.machine(folder.name)
        yield from (paths.folder, paths.ssh_key, paths.host_key, paths.seed, paths.certs / "key.pem")
        yield from (paths.authority / "ca-key.pem", paths.authority / "server-key.pem")


def _is_open(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return not stat.S_ISLNK(mode) and mode & 0o077 != 0
