"""What `--fix` does: never to a machine's data, and to nothing that runs."""

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from b2d.doctor.finding import Finding
from b2d.errors import B2dError
from b2d.host.file_removal import OwnNames, remove_own
from b2d.host.files import is_own, os_errors_as_b2d_errors
from b2d.host.package_managers import Installer
from b2d.machine_store.store import MachineStore
from b2d.models import ON_STATES, MachineSpec, MachineState
from b2d.paths import Home
from b2d.reporting.base import Reporter


def apply_fixes(findings: Iterable[Finding], home: Home, installer: Installer, reporter: Reporter) -> None:
    """Install what is missing, in one go, and close what is open. Raises B2dError, with the line to type.

    Only files and folders of this user's in `home` are closed: a link there may lead to anybody's.
    """
    found = list(findings)
    for path in (path for finding in found for path in finding.open_files):
        if not is_own(path, home.root):
            reporter.warn(f"left as it is, since it is no file of yours in {home.root}: {path}")
            continue
        try:
            _tighten_permissions(path)
        except OSError as error:
            raise B2dError(f"{path} cannot be closed to others: {error.strerror}") from error
        reporter.note(f"closed to others: {path}")
    needs = [need for finding in found for need in finding.needs]
    if needs:
        with reporter.step(f"install {', '.join(needs)}: {installer.line(needs)}"):
            installer.install(needs)


def _tighten_permissions(path: Path) -> None:
    """Take the rights of others from a file or folder, and not from what a link, put there meanwhile, leads to."""
    mode = 0o700 if stat.S_ISDIR(path.lstat().st_mode) else 0o600
    if os.chmod not in os.supports_fd or not hasattr(os, "O_NOFOLLOW"):  # Windows
        path.chmod(mode)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Cleaner:
    """Who takes away what was left."""

    home: Home
    state: Callable[[MachineSpec], MachineState]
    remove_image: Callable[[str], None]
    reporter: Reporter

    def clean(self, findings: Iterable[Finding]) -> None:
        """Remove what was found to be left. What cannot be removed is told, and the rest goes all the same."""
        for finding in findings:
            for path in finding.left_files:
                self._each(f"removed: {path}", partial(_remove, path))
            for sha256 in finding.left_images:
                self._each(f"removed: the image {sha256[:12]}", partial(self.remove_image, sha256))
            for name in finding.left_env:
                self._each(f"no shell is sent to {name} any more", partial(self._forget, name))

    def _each(self, done: str, do: Callable[[], None]) -> None:
        try:
            do()
        except B2dError as error:
            self.reporter.warn(error.message)
        else:
            self.reporter.note(done)

    def _forget(self, name: str) -> None:
        """Under the lock: it may have come up since it was looked at."""
        store = MachineStore(self.home)
        with store.lock(name, "doctor"):
            spec = store.read(name)
            if spec is not None and self.state(spec) in ON_STATES:
                raise B2dError(f"{name} runs by now")
            store.remove_env(name)


def _remove(path: Path) -> None:
    """A file, or a temporary folder of b2d's with the files in it."""
    with os_errors_as_b2d_errors(path):
        if path.is_dir() and not path.is_symlink():
            if left := remove_own(path, OwnNames(("*",))):
                raise B2dError(f"{path} stays, since there are folders in it: {', '.join(left)}")
        else:
            path.unlink(missing_ok=True)
