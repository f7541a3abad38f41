"""The verb import: the disk of a machine that is not b2d's is copied, all or nothing, and the original stays."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from b2d.errors import B2dError, DownloadError, InvalidStateError
from b2d.formats import boot2docker_disk
from b2d.host.files import check_space, os_errors_as_b2d_errors, private_folder, write_atomic
from b2d.host.signals import signals_deferred
from b2d.importing.base import DiskToCopy
from b2d.importing.candidates import ImportCandidate
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter

MIB = 1 << 20
Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class DiskImport:
    """One original, what copies its disk, and the new machine's place for that: `target`.

    `before` are the stamps of the disk's files, taken before anything of them was looked at: what is copied is then
    what was checked.
    """

    original: ImportCandidate
    disk: DiskToCopy
    paths: MachinePaths
    target: Path
    before: list[Stamp]

    @property
    def disk_mib(self) -> int:
        """How large the disk is, whole MiB."""
        return -(-self.disk.size // MIB)

    def check(self) -> None:
        """Raise B2dError for what the guest would not take up, before anything is begun."""
        if not boot2docker_disk.is_ours(self.disk.read):
            said = f"{self.original.disk} holds no data of boot2docker's, and does not ask to be formatted"
            raise B2dError(said, hint="b2d import FILE, its data disk")

    def run(self, reporter: Reporter) -> None:
        """Copy the disk to where the machine's is to be; one that came from there already is as good.

        Raises B2dError. Then, and when it is interrupted, nothing is left; whoever calls holds the machine.
        """
        if self.target.exists():
            if imported_from(self.paths, self.original):
                return
            raise InvalidStateError(f"there is a data disk already: {self.target}", hint="b2d init, which takes it up")
        there = self.paths.folder.exists()
        unfinished = self.target.with_name(f".{self.target.name}.unfinished")
        with os_errors_as_b2d_errors(self.paths.folder):
            try:
                self._copy(unfinished, reporter)
            except BaseException:
                with signals_deferred(), suppress(OSError):
                    unfinished.unlink(missing_ok=True)
                    self.paths.origin.unlink(missing_ok=True)
                    if not there:
                        self.paths.folder.rmdir()
                raise

    def _check_room(self) -> None:
        try:
            check_space(self.paths.folder, self.disk.room())
        except DownloadError as error:
            raise B2dError(error.message, hint=error.hint) from None

    def _copy(self, unfinished: Path, reporter: Reporter) -> None:
        private_folder(self.paths.folder)
        self._check_room()
        with reporter.progress(f"copying {self.original.disk}", self.disk.size) as bar:
            self.disk.copy(unfinished, bar.advance)
        if stamps(self.original) != self.before:
            raise InvalidStateError(f"{self.original.disk} was changed while it was copied", hint="power it off first")
        unfinished.chmod(0o600)
        with signals_deferred():
            write_atomic(self.paths.origin, _mark(self.original))
            unfinished.rename(self.target)


def imported_from(paths: MachinePaths, original: ImportCandidate) -> bool:
    """True where the machine's disk was copied from that one."""
    try:
        return paths.origin.read_bytes() == _mark(original)
    except OSError:
        return False


def _mark(original: ImportCandidate) -> bytes:
    return os.fsencode(original.disk.absolute())


def stamps(original: ImportCandidate) -> list[Stamp]:
    """Return how its files look from outside: otherwise when one was written, exchanged or renamed. Raises OSError."""
    seen = [path.stat() for path in original.files]
    return [(one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in seen]
