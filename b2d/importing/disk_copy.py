"""Copy the disk of a foreign machine, all or nothing; the original is not changed."""

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
from b2d.machine_names import command_for
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter

MIB = 1 << 20
Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class DiskImport:
    """The copy of a foreign machine's disk to the new machine's data disk, `target`.

    `before` are the stamps of the disk's files from before they were read: they show that the copied files are those
    that were checked.
    """

    original: ImportCandidate
    disk: DiskToCopy
    paths: MachinePaths
    target: Path
    before: list[Stamp]

    @property
    def disk_mib(self) -> int:
        """The size of the disk in MiB, rounded up."""
        return -(-self.disk.size // MIB)

    def check(self) -> None:
        """Raise B2dError for a disk that the guest would not use."""
        if not boot2docker_disk.is_ours(self.disk.read):
            message = f"{self.original.disk} is not a data disk of boot2docker"
            raise B2dError(message, hint="b2d import FILE, with its data disk")

    def run(self, reporter: Reporter) -> None:
        """Copy the disk to the new machine, unless its disk is a copy of the original already.

        Raises B2dError. After an error or an interruption nothing is left. The caller holds the machine's lock.
        """
        if self.target.exists():
            if imported_from(self.paths, self.original):
                return
            raise InvalidStateError(
                f"there is a data disk already: {self.target}",
                hint=f"{command_for('init', self.paths.folder.name)}, which uses it",
            )
        folder_exists = self.paths.folder.exists()
        unfinished = self.target.with_name(f".{self.target.name}.unfinished")
        with os_errors_as_b2d_errors(self.paths.folder):
            try:
                self._copy(unfinished, reporter)
            except BaseException:
                with signals_deferred(), suppress(OSError):
                    unfinished.unlink(missing_ok=True)
                    self.paths.origin.unlink(missing_ok=True)
                    if not folder_exists:
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
            raise InvalidStateError(
                f"{self.original.disk} was changed while it was copied", hint="power the machine off first"
            )
        unfinished.chmod(0o600)
        with signals_deferred():
            write_atomic(self.paths.origin, _mark(self.original))
            unfinished.rename(self.target)


def imported_from(paths: MachinePaths, original: ImportCandidate) -> bool:
    """Return whether the machine's disk is a copy of that original."""
    try:
        return paths.origin.read_bytes() == _mark(original)
    except OSError:
        return False


def _mark(original: ImportCandidate) -> bytes:
    return os.fsencode(original.disk.absolute())


def stamps(original: ImportCandidate) -> list[Stamp]:
    """Return stamps of the disk's files that change when one is written, replaced or renamed. Raises OSError."""
    files = [path.stat() for path in original.files]
    return [(file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns) for file in files]
