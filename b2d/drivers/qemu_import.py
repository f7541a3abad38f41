"""A disk that is copied by qemu-img, which reads what every hypervisor writes."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from b2d import proc
from b2d.drivers.qemu_disk import PROGRAM, SECTOR, TIMEOUT_S
from b2d.errors import B2dError

SLOWEST = 1 << 20  # bytes a second
PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")
FORMATS = {"raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"}  # those in which a disk is known to be one file, or to say so


@dataclass(frozen=True)
class ImageCopy:
    """The disk at `path`, to become one of `format`: qcow2 or vdi."""

    path: Path
    format: str

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What qemu-img says of it. Raises B2dError for what cannot be copied alone."""
        try:
            with self.path.open("rb"):
                pass
        except OSError as error:
            raise B2dError(f"{self.path} cannot be read: {error.strerror}") from error
        facts = json.loads(proc.check([PROGRAM, "info", "--output=json", self._name], timeout_s=TIMEOUT_S))
        if facts.get("backing-filename"):
            said = f"{self.path} holds only what is otherwise than in {facts['backing-filename']}: it has snapshots"
            raise B2dError(said, hint="b2d import NAME, where VirtualBox is, which puts them together")
        if facts["format"] not in FORMATS:
            raise B2dError(f"{self.path} is a disk of a kind that b2d does not copy: {facts['format']}")
        return dict(facts)

    @property
    def size(self) -> int:
        return int(self._facts["virtual-size"])

    def room(self) -> int:
        if self.format != "qcow2":
            return int(self._facts.get("actual-size", 0))
        asked = [PROGRAM, "measure", "--output=json", "-O", "qcow2", "-f", self._facts["format"], self._name]
        return int(json.loads(proc.check(asked, timeout_s=TIMEOUT_S))["required"])

    def read(self, offset: int, size: int) -> bytes:
        first = offset // SECTOR
        count = -(-(min(offset + size, self.size) - first * SECTOR) // SECTOR)
        if count <= 0:
            return b""
        with TemporaryDirectory(prefix="b2d-") as folder:
            part = Path(folder) / "part"
            place = [f"bs={SECTOR}", f"skip={first}", f"count={first + count}", f"if={self._name}", f"of={part}"]
            proc.check([PROGRAM, "dd", "-f", self._facts["format"], "-O", "raw", *place], timeout_s=TIMEOUT_S)
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
        proc.follow(command, heard, timeout_s=TIMEOUT_S + self.size / SLOWEST)

    @property
    def _name(self) -> str:
        """Beginning with a slash, or a drive: else a colon in it would be read as a protocol's."""
        return str(self.path.absolute())
