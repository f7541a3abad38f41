"""Templates: states of guests that hold before they have an identity, from which machines start.

A template is an incoming migration stream of QEMU's, so each machine that starts from it has its own copy of the
memory, and nothing that a guest does changes the template.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from b2d.drivers.qemu.accelerator import CPUINFO, Accelerator
from b2d.drivers.qemu.command_line import PROGRAM
from b2d.formats import json_text, numbers
from b2d.host.files import check_owner, hash_of, open_regular, private_folder, read_bounded, write_atomic

FORMAT = 1
STATE, RECORD, UNFINISHED = ".state", ".json", ".unfinished"
LEFTOVER = re.compile(rf"\.[0-9a-f]{{32}}\.(?:\d+{re.escape(UNFINISHED)}|json\.[a-z0-9_]{{8}})")
MAX_SIZE = 1 << 46  # bytes
LEFTOVER_AGE_S = 3600.0  # a state is written in seconds
REFUSED_S = 24 * 3600.0  # for so long nothing is tried again with hardware whose template failed


class Record(NamedTuple):
    """The content of <key>.json, written last; `refused` is the reason why there is no template, or ""."""

    sha256: str = ""
    size: int = 0
    stamp: tuple[int, ...] = ()  # size, time and inode of the state when it was last hashed
    image: str = ""  # sha256 of the image that it has booted
    refused: str = ""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Templates:
    """The folder templates/ of a home, with at most `limit_mib` MiB."""

    folder: Path
    limit_mib: int = 0

    def find(self, key: str) -> Path | None:
        """Return the state of a template, None where there is none; a damaged one is removed.

        A file with the size, time and inode of its last hashing is not hashed again.
        """
        record, state = self._read(key), self._state(key)
        if record is None or record.refused:
            return None
        try:
            stamp = _stamp(state)
            if stamp != record.stamp:
                if hash_of(state) != record.sha256:
                    raise ValueError("its content has changed")
                self._write(key, record._replace(stamp=stamp))
            os.utime(self._record(key))  # the least recently used goes first
        except (OSError, ValueError):
            self.drop(key)
            return None
        return state

    def is_refused(self, key: str) -> bool:
        """Tell whether a template of that key failed within the last day."""
        record = self._read(key)
        if record is None or not record.refused:
            return False
        with suppress(OSError):
            return time.time() - self._record(key).stat().st_mtime < REFUSED_S
        return False

    @contextmanager
    def add(self, key: str, image: str) -> Iterator[int]:
        """Yield a descriptor to which the block writes the state; nothing is kept when it fails. Raises OSError."""
        check_owner(self.folder.parent)
        private_folder(self.folder)
        for leftover in self.folder.glob(f".*{UNFINISHED}"):  # of a b2d that was killed
            if time.time() - leftover.lstat().st_mtime > LEFTOVER_AGE_S:
                leftover.unlink(missing_ok=True)
        unfinished = self.folder / f".{key}.{os.getpid()}{UNFINISHED}"
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                yield descriptor
            finally:
                os.close(descriptor)
            sha256 = hash_of(unfinished)
            unfinished.replace(self._state(key))
            stamp = _stamp(self._state(key))
            self._write(key, Record(sha256, stamp[0], stamp, image))
        finally:
            unfinished.unlink(missing_ok=True)
        self._make_room(key)

    def refuse(self, key: str, reason: str) -> None:
        """Remove a template, and record why for a day. Raises OSError."""
        self.drop(key)
        private_folder(self.folder)
        self._write(key, Record(refused=reason))

    def drop(self, key: str) -> None:
        """Remove a template, its record first."""
        for path in self.files(key):
            path.unlink(missing_ok=True)

    def all(self) -> dict[str, Record]:
        """Return the records that can be read by their keys, the most recently used first."""
        try:
            keys = [(path.stat().st_mtime, path.stem) for path in self.folder.glob(f"*{RECORD}")]
        except OSError:
            return {}
        records = {key: self._read(key) for _, key in sorted(keys, reverse=True)}
        return {key: record for key, record in records.items() if record is not None}

    def files(self, key: str) -> tuple[Path, Path]:
        """Return the paths of a template: the record first, without which nothing else is read."""
        return self._record(key), self._state(key)

    def _make_room(self, newest: str) -> None:
        room = self.limit_mib << 20
        records = self.all()
        for key in [newest, *(key for key in records if key != newest)]:
            room -= records[key].size if key in records else 0  # another b2d may have removed the newest
            if room < 0:
                self.drop(key)

    def _state(self, key: str) -> Path:
        return self.folder / f"{key}{STATE}"

    def _record(self, key: str) -> Path:
        return self.folder / f"{key}{RECORD}"

    def _read(self, key: str) -> Record | None:
        try:
            data: Any = json_text.parse(read_bounded(self._record(key)))
            if data["format"] != FORMAT:
                return None
            return Record(
                sha256=json_text.text(data["sha256"]),
                size=numbers.whole(data["size"], 0, MAX_SIZE),
                stamp=tuple(numbers.whole(number, 0, 1 << 64) for number in data["stamp"]),
                image=json_text.text(data["image"]),
                refused=json_text.text(data["refused"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, key: str, record: Record) -> None:
        write_atomic(self._record(key), json.dumps(record._asdict()).encode() + b"\n")


def key_of(hardware: Sequence[str], image: str, accelerator: Accelerator) -> str:
    """Return the key of the templates for this hardware, image, QEMU and host. Raises OSError without QEMU."""
    program = Path(shutil.which(PROGRAM) or PROGRAM).resolve()
    host = () if accelerator.emulates else (platform.release(), _cpu())
    parts = [FORMAT, *_stamp(program), str(program), image, host, list(hardware)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _cpu() -> str:
    """Return what of this host's CPU a guest sees, as far as Linux says it."""
    try:
        return CPUINFO.read_text(errors="replace").partition("\n\n")[0].partition("flags")[2].partition("\n")[0]
    except OSError:
        return platform.processor()


def _stamp(path: Path) -> tuple[int, ...]:
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
    return (status.st_size, status.st_mtime_ns, status.st_ino)
