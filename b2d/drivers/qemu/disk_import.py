"""A disk that is copied by qemu-img, which reads what every hypervisor writes."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from b2d.drivers.qemu.qemu_img import PROGRAM, SECTOR, TIMEOUT_S
from b2d.errors import B2dError
from b2d.formats import json_text
from b2d.formats.disk_image import inspect
from b2d.formats.disk_reading import CONVERT, SIZE_LIMIT, DiskImageError
from b2d.host import processes
from b2d.host.files import can_be_written_by_others, open_regular

OPENED = Path("/proc/self/fd")  # where a program of Linux opens anew what it was given open
OWN = "cp FILE MINE && b2d import MINE"
SLOWEST = 1 << 20  # bytes a second
PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")
FILE_NAMES = ("filename", "data-file", "backing-filename", "full-backing-filename")  # where qemu-img names files


def check_disk(path: Path, *, child: bool = False) -> str:
    """Return the format, as qemu-img names it, of a foreign disk that is one regular file and names no other.

    A `child` may be a layer that VirtualBox keeps above another disk. Raises B2dError; no other program has opened
    the file then.
    """
    with _opened(path) as file:
        return _checked(file, path, child=child)


def _opened(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        raise B2dError(f"{path} cannot be read: {error.strerror}") from error


def _checked(file: BinaryIO, path: Path, *, child: bool = False) -> str:
    try:
        if can_be_written_by_others(os.fstat(file.fileno())):  # a header that changes in place is not seen by its times
            raise B2dError(f"{path} could be changed by another user while it is copied", hint=OWN)
        found = inspect(file, child=child)
    except DiskImageError as error:
        raise B2dError(f"{path} {error.message}", hint=error.hint) from error
    except OSError as error:
        raise B2dError(f"{path} cannot be read: {error.strerror}") from error
    if found.extent not in ("", path.name) and os.path.lexists(path.with_name(found.extent)):
        said = f"{path} calls itself {found.extent!r}, and another file of that name lies beside it"
        raise B2dError(said, hint=CONVERT)
    return found.format


@dataclass(frozen=True)
class ImageCopy:
    """The disk at `path`, to become one of `format`: qcow2 or vdi.

    On Linux it is opened once: what was checked is what qemu-img reads, whatever lies at `path` by then.
    """

    path: Path
    format: str

    @cached_property
    def _file(self) -> BinaryIO:
        return _opened(self.path)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What qemu-img says of it, and its own format. Raises B2dError for what is not one file."""
        known = _checked(self._file, self.path)
        asked = [PROGRAM, "info", "--output=json", "-f", known, self._name]
        facts = _document(self._ask(asked))
        strangers = sorted({name for name in _files(facts) if _as_told(name) != _as_told(self._name)})
        size = facts.get("virtual-size")
        if strangers or facts.get("format") != known or type(size) is not int or not 0 <= size <= SIZE_LIMIT:
            raise B2dError(f"{self.path} is no disk on its own, and is not copied", details=f"{facts}")
        return facts

    @property
    def size(self) -> int:
        return int(self._facts["virtual-size"])

    def room(self) -> int:
        asked = [PROGRAM, "measure", "--output=json", "-O", "qcow2", "-f", self._facts["format"], self._name]
        return int(_document(self._ask(asked))["required"])

    def read(self, offset: int, size: int) -> bytes:
        first = offset // SECTOR
        count = -(-(min(offset + size, self.size) - first * SECTOR) // SECTOR)
        if count <= 0:
            return b""
        with TemporaryDirectory(prefix="b2d-") as folder:
            part = Path(folder) / "part"
            place = [f"bs={SECTOR}", f"skip={first}", f"count={first + count}", f"if={self._name}", f"of={part}"]
            self._ask([PROGRAM, "dd", "-f", self._facts["format"], "-O", "raw", *place])
            start = offset - first * SECTOR
            return part.read_bytes()[start : start + size]

    def copy(self, target: Path, advance: Callable[[int], None]) -> None:
        done = 0

        def heard(said: bytes) -> None:
            nonlocal done
            for found in PERCENT.findall(said)[-1:]:
                now = int(self.size * float(found) / 100)
                advance(now - done)
                done = now

        command = [PROGRAM, "convert", "-p", "-f", self._facts["format"], "-O", self.format, self._name, str(target)]
        with self._named():
            processes.follow(command, heard, timeout_s=TIMEOUT_S + self.size / SLOWEST, pass_fds=self._numbers)

    def _ask(self, command: Sequence[str]) -> bytes:
        with self._named():
            return processes.check(command, timeout_s=TIMEOUT_S, pass_fds=self._numbers)

    @property
    def _numbers(self) -> list[int]:
        return [self._file.fileno()] if OPENED.is_dir() else []

    @property
    def _name(self) -> str:
        """Beginning with a slash, or a drive: else a colon in it would be read as a protocol's."""
        return next((str(OPENED / str(number)) for number in self._numbers), str(self.path.absolute()))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Have an error tell of the file by the name that a person knows."""
        try:
            yield
        except B2dError as error:
            error.message, error.details = (
                said.replace(self._name, str(self.path)) for said in (error.message, error.details)
            )
            raise


def _as_told(name: str) -> str:
    """Return a file's name as far as it can be compared: QEMU writes other bytes than UTF-8's as it likes."""
    return name if name.isascii() else "".join(sign for sign in name if sign.isascii())


def _document(content: bytes) -> dict[str, Any]:
    try:
        found = json_text.parse(content)
    except ValueError as error:
        raise B2dError(f"{PROGRAM} gave an answer that cannot be understood", details=str(error)) from error
    if not isinstance(found, dict):
        raise B2dError(f"{PROGRAM} gave an answer that cannot be understood", details=repr(found))
    return found


def _files(facts: object, depth: int = 0) -> Iterator[str]:
    """Yield every file that an answer of `qemu-img info` names, of this node and of those below it."""
    if isinstance(facts, list) and depth < 16:
        for one in facts:
            yield from _files(one, depth + 1)
    elif isinstance(facts, dict) and depth < 16:
        for key, value in facts.items():
            if key in FILE_NAMES and value:
                yield str(value)
            elif key != "snapshots":
                yield from _files(value, depth + 1)
