"""The data disk of a QEMU machine: it grows with its content, and never overwrites another."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from b2d.drivers.qemu import qcow2
from b2d.errors import B2dError, InvalidStateError
from b2d.formats.disk_reading import SECTOR
from b2d.guest import seed
from b2d.host import processes
from b2d.host.files import private_folder, write_atomic
from b2d.machine_names import commands_for

PROGRAM = "qemu-img"
TIMEOUT_S = 60.0
COMPACT_S = 3600.0
MIB = 1 << 20


def create(path: Path, size_mib: int, payload: bytes) -> None:
    """Create a disk that begins with `payload`, all or nothing. Raises InvalidStateError when it exists."""
    if path.exists():
        raise InvalidStateError(f"there is a data disk already: {path}")
    start = path.with_name(f".{path.name}.start")
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        private_folder(path.parent)
        write_atomic(start, payload.ljust(-(-len(payload) // SECTOR) * SECTOR, b"\0"))
        _run("convert", "-f", "raw", "-O", "qcow2", str(start), str(unfinished))
        _run("resize", "-q", "-f", "qcow2", str(unfinished), f"{size_mib}M")
        unfinished.chmod(0o600)
        unfinished.rename(path)
    except OSError as error:
        raise B2dError(f"the data disk cannot be created: {error}") from error
    finally:
        with suppress(OSError):
            start.unlink(missing_ok=True)
            unfinished.unlink(missing_ok=True)


def replace(path: Path, new: Path) -> None:
    """Replace a disk that no process has open by a copy of another file, all or nothing. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        shutil.copyfile(new, unfinished)
        unfinished.chmod(0o600)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def grow(path: Path, size_mib: int) -> None:
    """Enlarge a disk that no process has open to `size_mib`; a larger disk stays as it is."""
    if qcow2.read_size(path) >= size_mib * MIB:
        return
    seed.refuse_half_formatted(_first_sector(path), path.parent.name)
    _run("resize", "-q", "-f", "qcow2", str(path), f"{size_mib}M")


def compact(path: Path) -> None:
    """Rewrite a disk that no process has open without its blocks of zeros, all or nothing.

    Raises InvalidStateError when it has snapshots: the copy would lose them.
    """
    if qcow2.read_snapshots(path):
        raise InvalidStateError(
            "a disk with snapshots can only be compacted while its machine runs",
            hint=commands_for(("up", "disk compact"), path.parent.name),
        )
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        _run("convert", "-f", "qcow2", "-O", "qcow2", str(path), str(unfinished), timeout_s=COMPACT_S)
        unfinished.chmod(0o600)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())  # qemu-img does not do it
        unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _first_sector(path: Path) -> bytes:
    with TemporaryDirectory(dir=path.parent, prefix=".begin-") as folder:
        copy = Path(folder) / "begin"
        _run("dd", "-f", "qcow2", "-O", "raw", f"bs={SECTOR}", "count=1", f"if={path}", f"of={copy}")
        return copy.read_bytes()


def _run(*arguments: str, timeout_s: float = TIMEOUT_S) -> None:
    processes.check([PROGRAM, *arguments], timeout_s=timeout_s)
