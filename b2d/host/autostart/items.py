"""Items that start a machine at the user's login; other files or tasks of their name are not changed."""

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from b2d.errors import B2dError
from b2d.host import processes
from b2d.host.autostart import templates
from b2d.host.files import os_errors_as_b2d_errors, read_bounded, write_atomic
from b2d.machine_names import command_for
from b2d.models import CommandResult
from b2d.paths import Home, MachinePaths

ANSWER_S = 20.0
SYSTEMD_RUNS = Path("/run/systemd/system")
AT_BOOT = "to start it at boot, without a login: loginctl enable-linger"


class AutostartExistsError(B2dError):
    """An item of that name which is not this machine's."""


class LoginItem(Protocol):
    """An item that starts a machine at login. Its methods raise B2dError for errors of the system."""

    @property
    def where(self) -> str:
        """The file, or the task's name."""

    def is_on(self) -> bool:
        """Return whether the item exists and is this machine's."""

    def put(self) -> bool:
        """Create or update the item; return False when it is up to date. Raises AutostartExistsError."""

    def remove(self) -> bool:
        """Remove the item if it is this machine's; return False when there is none."""

    def remarks(self) -> list[str]:
        """Return notes for the user on a new item."""


def login_item(paths: MachinePaths, home: Home, environ: Mapping[str, str], system: str = sys.platform) -> LoginItem:
    """Return the machine's login item for this system."""
    name, mark = paths.folder.name, f"b2d: {paths.folder}"
    b2d = [sys.executable, "-P", "-m", "b2d", "--quiet", "--dir", str(home.root), "--vm", name]
    usable, unusable = templates.split_path(environ.get("PATH", os.defpath))
    start, path = [*b2d, "up"], {"PATH": usable}  # the hypervisor may be in any folder of it
    no_end = f"it keeps running at the end of the session; to stop it: {command_for('stop', name)}"
    warnings = tuple(f"its PATH lacks this entry, which is not plain text: {entry!r}" for entry in unusable)
    if system == "win32":
        mark = (
            "b2d-" + hashlib.sha256(os.fsencode(paths.folder)).hexdigest()
        )  # ASCII, since schtasks writes in some code page
        user = f"{environ.get('USERDOMAIN', '')}\\{environ.get('USERNAME', '')}"
        return ScheduledTask(
            f"b2d-{name}", mark, templates.task(mark, user, start), paths.folder / "autostart.xml", no_end
        )
    person = Path(environ.get("HOME") or Path.home())
    if system == "darwin":
        label = f"b2d.{name}"
        content = templates.plist(label, mark, start, path)
        return LaunchAgent(person / "Library" / "LaunchAgents" / f"{label}.plist", mark, content, (no_end, *warnings))
    units = Path(environ.get("XDG_CONFIG_HOME") or person / ".config") / "systemd" / "user"
    return SystemdUnit(units / f"b2d-{name}.service", mark, templates.unit(mark, start, [*b2d, "stop"], path), warnings)


def stale_items(paths: MachinePaths, home: Home) -> None:
    """Remove the machine's login item, for `delete`; errors are ignored."""
    with suppress(B2dError):
        login_item(paths, home, os.environ).remove()


@dataclass(frozen=True, slots=True)
class LaunchAgent:
    """A launchd agent, read at login."""

    path: Path
    mark: str
    content: bytes
    notes: tuple[str, ...] = ()  # remarks

    @property
    def where(self) -> str:
        """The agent's file."""
        return str(self.path)

    def is_on(self) -> bool:
        """Return whether the agent exists and is this machine's."""
        return self._is_marked(templates.plist_mark)

    def put(self) -> bool:
        """Create or update the agent; return False when it is up to date."""
        return self._put(templates.plist_mark)

    def remove(self) -> bool:
        """Remove the agent; return False when there is none."""
        return self._remove(templates.plist_mark)

    def remarks(self) -> list[str]:
        """Return notes for the user on a new agent."""
        return list(self.notes)

    def _stored(self) -> bytes | None:
        try:
            return read_bounded(self.path)
        except FileNotFoundError:
            return None

    def _is_marked(self, mark_of: Callable[[bytes], str]) -> bool:
        with os_errors_as_b2d_errors(self.path):
            content = self._stored()
        return content is not None and mark_of(content) == self.mark

    def _put(self, mark_of: Callable[[bytes], str]) -> bool:
        with os_errors_as_b2d_errors(self.path):
            if self._stored() == self.content:
                return False
            if os.path.lexists(self.path) and not self._is_marked(mark_of):
                raise AutostartExistsError(
                    f"{self.path} is not this machine's", hint="move it away, or use another --vm NAME"
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, self.content)
        return True

    def _remove(self, mark_of: Callable[[bytes], str]) -> bool:
        if not self._is_marked(mark_of):
            return False
        with os_errors_as_b2d_errors(self.path):
            self.path.unlink()
        return True


class SystemdUnit(LaunchAgent):
    """A systemd unit, with the link that starts it at login."""

    __slots__ = ()

    @property
    def link(self) -> Path:
        """The link that `systemctl --user enable` would make, which needs a session."""
        return self.path.parent / "default.target.wants" / self.path.name

    def is_on(self) -> bool:
        """Return whether the unit exists with its link, and is this machine's."""
        return self._is_marked(templates.unit_mark) and self.link.is_symlink()

    def put(self) -> bool:
        """Create or update the unit with its link; return False when up to date."""
        changed = self._put(templates.unit_mark)
        with os_errors_as_b2d_errors(self.link):
            if not os.path.lexists(self.link):
                self.link.parent.mkdir(parents=True, exist_ok=True)
                self.link.symlink_to(f"../{self.path.name}")
                changed = True
        if changed:
            self._reload()
        return changed

    def remove(self) -> bool:
        """Remove the unit and its link; return False when there is none."""
        if not self._remove(templates.unit_mark):
            return False
        with os_errors_as_b2d_errors(self.link):
            self.link.unlink(missing_ok=True)
        self._reload()
        return True

    def remarks(self) -> list[str]:
        """Return notes for the user on a new unit."""
        if not SYSTEMD_RUNS.is_dir():
            return ["systemd does not run on this host, and nothing else reads the unit", *self.notes]
        return [AT_BOOT, *self.notes]

    def _reload(self) -> None:
        """Reload units; without a session they are read at the next login."""
        with suppress(B2dError):
            processes.run(["systemctl", "--user", "daemon-reload"], timeout_s=ANSWER_S)


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """A task of Windows' Task Scheduler."""

    name: str
    mark: str
    content: bytes
    draft: Path  # schtasks reads a file
    note: str  # the remark

    @property
    def where(self) -> str:
        """The task's name."""
        return self.name

    def is_on(self) -> bool:
        """Return whether the task exists and is this machine's."""
        return self.mark.encode() in self._stored()

    def put(self) -> bool:
        """Create or update the task; return False when it existed."""
        stored = self._stored()
        if stored and self.mark.encode() not in stored:
            raise AutostartExistsError(
                f"the task {self.name} is not this machine's", hint=f"schtasks /Delete /TN {self.name}"
            )
        with os_errors_as_b2d_errors(self.draft):
            write_atomic(self.draft, self.content)
            try:
                self._run_checked("/Create", "/TN", self.name, "/XML", str(self.draft), "/F")
            finally:
                self.draft.unlink()
        return not stored

    def remove(self) -> bool:
        """Remove the task; return False when there is none."""
        if not self.is_on():
            return False
        self._run_checked("/Delete", "/TN", self.name, "/F")
        return True

    def remarks(self) -> list[str]:
        """Return notes for the user on a new task."""
        return [self.note]

    def _stored(self) -> bytes:
        """Return the stored task with one byte per character: the mark is ASCII; empty for none."""
        done = self._run("/Query", "/TN", self.name, "/XML")
        return done.stdout.replace(b"\0", b"") if done.exit_code == 0 else b""

    def _run(self, *arguments: str) -> CommandResult:
        return processes.run(["schtasks", *arguments], timeout_s=ANSWER_S)

    def _run_checked(self, *arguments: str) -> None:
        result = self._run(*arguments)
        if result.exit_code != 0:
            stderr = result.stderr.decode(errors="replace").strip()
            raise B2dError(f"schtasks {arguments[0]}: {stderr or result.exit_code}")
