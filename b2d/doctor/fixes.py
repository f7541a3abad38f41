"""The fixes of `--fix`, which never touch a machine's data or a running machine."""

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
    """Install missing programs, all at once, and tighten permissions. Raises B2dError with a command to type.

    Only files and folders in `home` that belong to this user are changed: a link there may lead to another user's file.
    """
    findings = list(findings)
    for path in (path for finding in findings for path in finding.open_files):
        if not is_own(path, home.root):
            reporter.warn(f"the permissions of {path} are unchanged: it is not a file of yours in {home.root}")
            continue
        try:
            _tighten_permissions(path)
        except OSError as error:
            raise B2dError(f"the permissions of {path} cannot be tightened: {error.strerror}") from error
        reporter.note(f"tightened the permissions of {path}")
    needs = [need for finding in findings for need in finding.needs]
    if needs:
        with reporter.step(f"install {', '.join(needs)}: {installer.line(needs)}"):
            installer.install(needs)


def _tighten_permissions(path: Path) -> None:
    """Remove others' permissions from a file or folder, without following a link that replaced it meanwhile."""
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
    """Removes leftovers: abandoned files, unused images and outdated env files."""

    home: Home
    state: Callable[[MachineSpec], MachineState]
    remove_image: Callable[[str], None]
    reporter: Reporter

    def clean(self, findings: Iterable[Finding]) -> None:
        """Remove the leftovers of the findings; warn about those that cannot be removed, and continue."""
        for finding in findings:
            for path in finding.left_files:
                self._run(f"removed {path}", partial(_remove, path))
            for sha256 in finding.left_images:
                self._run(f"removed the image {sha256[:12]}", partial(self.remove_image, sha256))
            for name in finding.left_env:
                self._run(f"shells no longer use the stale variables of {name}", partial(self._remove_env, name))

    def _run(self, success: str, action: Callable[[], None]) -> None:
        try:
            action()
        except B2dError as error:
            self.reporter.warn(error.message)
        else:
            self.reporter.note(success)

    def _remove_env(self, name: str) -> None:
        """Remove the machine's env file, under its lock: the machine may have started since the examination."""
        store = MachineStore(self.home)
        with store.lock(name, "doctor"):
            spec = store.read(name)
            if spec is not None and self.state(spec) in ON_STATES:
                raise B2dError(f"{name} is running now")
            store.remove_env(name)


def _remove(path: Path) -> None:
    """Remove a file, or a temporary folder of b2d's with the files in it."""
    with os_errors_as_b2d_errors(path):
        if path.is_dir() and not path.is_symlink():
            if left := remove_own(path, OwnNames(("*",))):
                raise B2dError(f"{path} cannot be removed: it contains folders: {', '.join(left)}")
        else:
            path.unlink(missing_ok=True)
