"""Templates: states of guests that hold before they have an identity, from which machines start.

A template is an incoming migration stream of QEMU's, so each machine that starts from it has its own copy of the
memory, and nothing that a guest does changes the template. One for new machines has a data disk too, which is copied.
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
STATE, DISK, RECORD, UNFINISHED = ".state", ".qcow2", ".json", ".unfinished"
LEFTOVER = re.compile(rf"\.[0-9a-f]{{32}}\.(?:\d+(?:{re.escape(DISK)})?{re.escape(UNFINISHED)}|json\.[a-z0-9_]{{8}})")
MAX_SIZE = 1 << 46  # bytes
LEFTOVER_AGE_S = 3600.0  # a state is written in seconds
REFUSED_S = 24 * 3600.0  # for so long nothing is tried again with hardware whose template failed


class Record(NamedTuple):
    """The content of <key>.json, written last; `refused` is the reason why there is no template, or ""."""

    sha256: str = ""  # of the state
    size: int = 0  # in bytes, of all files
    stamp: tuple[int, ...] = ()  # size, time and inode of the state when it was last hashed
    disk_sha256: str = ""  # "": there is no disk
    disk_stamp: tuple[int, ...] = ()
    image: str = ""  # Image.system of the image that it has booted
    refused: str = ""
    format: int = FORMAT


class Template(NamedTuple):
    """The files of a template. A machine whose data disk is new gets a copy of the template's disk, if there is one."""

    state: Path
    disk: Path | None = None


class Draft(NamedTuple):
    """A template in the making: a descriptor to write the state to, and where its disk is to be put, if it has one."""

    state: int
    disk: Path


@dataclass(frozen=True, slots=True)
class Templates:
    """The folder templates/ of a home, with at most `limit_mib` MiB."""

    folder: Path
    limit_mib: int = 0

    def find(self, key: str) -> Template | None:
        """Return a template, None where there is none; a damaged one is removed.

        A file with the size, time and inode of its last hashing is not hashed again.
        """
        record = self._read(key)
        if record is None or record.refused:
            return None
        template = Template(self._state(key), self._disk(key) if record.disk_sha256 else None)
        try:
            checked = record._replace(stamp=_checked_stamp(template.state, record.stamp, record.sha256))
            if template.disk is not None:
                disk_stamp = _checked_stamp(template.disk, record.disk_stamp, record.disk_sha256)
                checked = checked._replace(disk_stamp=disk_stamp)
            if checked != record:
                self._write(key, checked)
            os.utime(self._record(key))  # the least recently used goes first
        except (OSError, ValueError):
            self.drop(key)
            return None
        return template

    def is_refused(self, key: str) -> bool:
        """Tell whether a template of that key failed within the last day."""
        record = self._read(key)
        if record is None or not record.refused:
            return False
        with suppress(OSError):
            return time.time() - self._record(key).stat().st_mtime < REFUSED_S
        return False

    @contextmanager
    def add(self, key: str, image: str) -> Iterator[Draft]:
        """Yield where the block writes the state and puts the disk; nothing stays when it fails. Raises OSError."""
        check_owner(self.folder.parent)
        private_folder(self.folder)
        for leftover in self.folder.glob(f".*{UNFINISHED}"):  # of a b2d that was killed
            if time.time() - leftover.lstat().st_mtime > LEFTOVER_AGE_S:
                leftover.unlink(missing_ok=True)
        unfinished = self.folder / f".{key}.{os.getpid()}{UNFINISHED}"
        unfinished_disk = unfinished.with_name(f".{key}.{os.getpid()}{DISK}{UNFINISHED}")
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                yield Draft(descriptor, unfinished_disk)
            finally:
                os.close(descriptor)
            record = Record(*_move(unfinished, self._state(key)), image=image)
            if unfinished_disk.exists():
                disk_sha256, size, disk_stamp = _move(unfinished_disk, self._disk(key))
                record = record._replace(disk_sha256=disk_sha256, disk_stamp=disk_stamp, size=record.size + size)
            self._write(key, record)
        finally:
            for path in (unfinished, unfinished_disk):
                path.unlink(missing_ok=True)
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

    def files(self, key: str) -> tuple[Path, ...]:
        """Return the paths of a template: the record first, without which nothing else is read."""
        return self._record(key), self._state(key), self._disk(key)

    def _make_room(self, newest: str) -> None:
        room = self.limit_mib << 20
        records = self.all()
        for key in [newest, *(key for key in records if key != newest)]:
            room -= records[key].size if key in records else 0  # another b2d may have removed the newest
            if room < 0:
                self.drop(key)

    def _state(self, key: str) -> Path:
        return self.folder / f"{key}{STATE}"

    def _disk(self, key: str) -> Path:
        return self.folder / f"{key}{DISK}"

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
                disk_sha256=json_text.text(data.get("disk_sha256", "")),
                disk_stamp=tuple(numbers.whole(number, 0, 1 << 64) for number in data.get("disk_stamp", ())),
                image=json_text.text(data["image"]),
                refused=json_text.text(data["refused"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _write(self, key: str, record: Record) -> None:
        write_atomic(self._record(key), json.dumps(record._asdict()).encode() + b"\n")


def key_of(hardware: Sequence[str], system: str, accelerator: Accelerator) -> str:
    """Return the key of a template for this hardware, Image.system, QEMU and host. Raises OSError without QEMU."""
    program = Path(shutil.which(PROGRAM) or PROGRAM).resolve()
    host = () if accelerator.emulates else (platform.release(), _cpu())
    parts = [FORMAT, *_stamp(program), str(program), system, host, list(hardware)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _cpu() -> str:
    """Return what of this host's CPU a guest sees, as far as Linux says it."""
    try:
        return CPUINFO.read_text(errors="replace").partition("\n\n")[0].partition("flags")[2].partition("\n")[0]
    except OSError:
        return platform.processor()


def _checked_stamp(path: Path, known: tuple[int, ...], sha256: str) -> tuple[int, ...]:
    """Return the file's stamp. Raises ValueError when it looks changed and has another hash."""
    stamp = _stamp(path)
    if stamp != known and hash_of(path) != sha256:
        raise ValueError(f"the content of {path} has changed")
    return stamp


def _move(unfinished: Path, path: Path) -> tuple[str, int, tuple[int, ...]]:
    """Move a file to its final path; return its hash, size and stamp."""
    sha256 = hash_of(unfinished)
    unfinished.replace(path)
    stamp = _stamp(path)
    return sha256, stamp[0], stamp


def _stamp(path: Path) -> tuple[int, ...]:
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
    return (status.st_size, status.st_mtime_ns, status.st_ino)
