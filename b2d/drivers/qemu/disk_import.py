"""A copy of a disk by qemu-img, which reads the formats of all hypervisors."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from b2d.drivers.qemu.qemu_img import PROGRAM, TIMEOUT_S
from b2d.errors import B2dError
from b2d.formats import json_text
from b2d.formats.disk_image import inspect
from b2d.formats.disk_reading import CONVERT, SECTOR, SIZE_LIMIT, DiskImageError
from b2d.host import processes
from b2d.host.files import can_be_written_by_others, open_regular

DESCRIPTORS = Path("/proc/self/fd")  # of Linux, for inherited files
OWN = "cp FILE MINE && b2d import MINE"
SLOWEST = 1 << 20  # bytes a second
PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")
FILE_NAMES = ("filename", "data-file", "backing-filename", "full-backing-filename")  # where qemu-img names files


def check_disk(path: Path, *, child: bool = False) -> str:
    """Return the format, as qemu-img names it, of a foreign disk that is one regular file and names no other.

    A `child` may be a layer that VirtualBox keeps above another disk. Raises B2dError before another program opens the
    file.
    """
    with _open(path) as file:
        return _check(file, path, child=child)


def _open(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        raise B2dError(f"{path} cannot be read: {error.strerror}") from error


def _check(file: BinaryIO, path: Path, *, child: bool = False) -> str:
    try:
        if can_be_written_by_others(os.fstat(file.fileno())):  # its times do not show a changed header
            raise B2dError(f"{path} could be changed by another user during the copy", hint=OWN)
        disk = inspect(file, child=child)
    except DiskImageError as error:
        raise B2dError(f"{path} {error.message}", hint=error.hint) from error
    except OSError as error:
        raise B2dError(f"{path} cannot be read: {error.strerror}") from error
    if disk.extent not in ("", path.name) and os.path.lexists(path.with_name(disk.extent)):
        message = f"{path} refers to itself as {disk.extent!r}, but another file has that name"
        raise B2dError(message, hint=CONVERT)
    return disk.format


@dataclass(frozen=True)
class ImageCopy:
    """A disk at `path` to be converted to `format`: qcow2 or vdi.

    On Linux it is opened once: qemu-img reads the file that was checked, whatever is at `path` by then.
    """

    path: Path
    format: str

    @cached_property
    def _file(self) -> BinaryIO:
        return _open(self.path)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """The output of `qemu-img info`. Raises B2dError for a disk that is not one file."""
        image_format = _check(self._file, self.path)
        command = [PROGRAM, "info", "--output=json", "-f", image_format, self._name]
        facts = _parse_object(self._ask(command))
        foreign_files = sorted(
            {name for name in _files(facts) if _comparable_name(name) != _comparable_name(self._name)}
        )
        size = facts.get("virtual-size")
        if foreign_files or facts.get("format") != image_format or type(size) is not int or not 0 <= size <= SIZE_LIMIT:
            raise B2dError(f"{self.path} depends on other files, and cannot be copied", details=f"{facts}")
        return facts

    @property
    def size(self) -> int:
        """The size that a guest sees, in bytes."""
        return int(self._facts["virtual-size"])

    def room(self) -> int:
        """Return the number of bytes that the copy needs at most."""
        command = [PROGRAM, "measure", "--output=json", "-O", "qcow2", "-f", self._facts["format"], self._name]
        return int(_parse_object(self._ask(command))["required"])

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of the disk's content from `offset`. Raises B2dError."""
        first = offset // SECTOR
        count = -(-(min(offset + size, self.size) - first * SECTOR) // SECTOR)
        if count <= 0:
            return b""
        with TemporaryDirectory(prefix="b2d-") as folder:
            part = Path(folder) / "part"
            options = [f"bs={SECTOR}", f"skip={first}", f"count={first + count}", f"if={self._name}", f"of={part}"]
            self._ask([PROGRAM, "dd", "-f", self._facts["format"], "-O", "raw", *options])
            start = offset - first * SECTOR
            return part.read_bytes()[start : start + size]

    def copy(self, target: Path, advance: Callable[[int], None]) -> None:
        """Write the copy to `target`; call `advance` with the number of bytes of each step. Raises B2dError."""
        done = 0

        def report(output: bytes) -> None:
            nonlocal done
            for percent in PERCENT.findall(output)[-1:]:
                now = int(self.size * float(percent) / 100)
                advance(now - done)
                done = now

        command = [PROGRAM, "convert", "-p", "-f", self._facts["format"], "-O", self.format, self._name, str(target)]
        with self._readable_errors():
            processes.follow(command, report, timeout_s=TIMEOUT_S + self.size / SLOWEST, pass_fds=self._descriptors)

    def _ask(self, command: Sequence[str]) -> bytes:
        with self._readable_errors():
            return processes.check(command, timeout_s=TIMEOUT_S, pass_fds=self._descriptors)

    @property
    def _descriptors(self) -> list[int]:
        return [self._file.fileno()] if DESCRIPTORS.is_dir() else []

    @property
    def _name(self) -> str:
        """The path for qemu-img; it begins with a slash or a drive, else a colon would be read as a protocol."""
        return next((str(DESCRIPTORS / str(descriptor)) for descriptor in self._descriptors), str(self.path.absolute()))

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Replace the internal name of the file in errors by the path that the user knows."""
        try:
            yield
        except B2dError as error:
            message, details = (text.replace(self._name, str(self.path)) for text in (error.message, error.details))
            raise error.replace(message=message, details=details) from error


def _comparable_name(name: str) -> str:
    """Return a file's name reduced to ASCII for comparison: QEMU writes bytes that are not UTF-8 in its own way."""
    return name if name.isascii() else "".join(char for char in name if char.isascii())


def _parse_object(content: bytes) -> dict[str, Any]:
    try:
        document = json_text.parse(content)
    except ValueError as error:
        raise B2dError(f"the output of {PROGRAM} cannot be parsed", details=str(error)) from error
    if not isinstance(document, dict):
        raise B2dError(f"the output of {PROGRAM} cannot be parsed", details=repr(document))
    return document


def _files(facts: object, depth: int = 0) -> Iterator[str]:
    """Yield every file that the output of `qemu-img info` names, of this node and of those below it."""
    if isinstance(facts, list) and depth < 16:
        for item in facts:
            yield from _files(item, depth + 1)
    elif isinstance(facts, dict) and depth < 16:
        for key, value in facts.items():
            if key in FILE_NAMES and value:
                yield str(value)
            elif key != "snapshots":
                yield from _files(value, depth + 1)
