"""A machine that comes up when its person logs in: made, and nobody else's file or task of that name ever touched."""

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
from b2d.models import CommandResult
from b2d.paths import Home, MachinePaths

ANSWER_S = 20.0
SYSTEMD_RUNS = Path("/run/systemd/system")
AT_BOOT = "at boot too, without a login: loginctl enable-linger"
NO_END = "at the end of the session nobody stops it: b2d stop does"


class AutostartExistsError(B2dError):
    """There is one of that name which is not this machine's."""


class LoginItem(Protocol):
    """What starts one machine at login. Each raises B2dError for what the system refuses."""

    @property
    def where(self) -> str:
        """The file, or the task's name."""

    def is_on(self) -> bool:
        """True when it is there, and this machine's."""

    def put(self) -> bool:
        """Make it as it should be; False when it is so. Raises AutostartExistsError."""

    def remove(self) -> bool:
        """Take it away if it is this machine's; False when it was not there."""

    def remarks(self) -> list[str]:
        """What is worth knowing once it is made."""


def login_item(paths: MachinePaths, home: Home, environ: Mapping[str, str], system: str = sys.platform) -> LoginItem:
    """The machine's, on this system."""
    name, mark = paths.folder.name, f"b2d: {paths.folder}"
    b2d = [sys.executable, "-P", "-m", "b2d", "--quiet", "--dir", str(home.root), "--vm", name]
    kept, left_out = templates.sound_path(environ.get("PATH", os.defpath))
    start, path = [*b2d, "up"], {"PATH": kept}  # the hypervisor may lie anywhere
    unsound = tuple(f"left out of its PATH, as it is no plain text: {entry!r}" for entry in left_out)
    if system == "win32":
        mark = "b2d-" + hashlib.sha256(os.fsencode(paths.folder)).hexdigest()  # schtasks answers in some code page
        user = f"{environ.get('USERDOMAIN', '')}\\{environ.get('USERNAME', '')}"
        return ScheduledTask(f"b2d-{name}", mark, templates.task(mark, user, start), paths.folder / "autostart.xml")
    person = Path(environ.get("HOME") or Path.home())
    if system == "darwin":
        label = f"b2d.{name}"
        content = templates.plist(label, mark, start, path)
        return LaunchAgent(person / "Library" / "LaunchAgents" / f"{label}.plist", mark, content, unsound)
    units = Path(environ.get("XDG_CONFIG_HOME") or person / ".config") / "systemd" / "user"
    return SystemdUnit(units / f"b2d-{name}.service", mark, templates.unit(mark, start, [*b2d, "stop"], path), unsound)


def stale_items(paths: MachinePaths, home: Home) -> None:
    """What `delete` does for it."""
    with suppress(B2dError):
        login_item(paths, home, os.environ).remove()


@dataclass(frozen=True, slots=True)
class LaunchAgent:
    """A file that launchd reads at login."""

    path: Path
    mark: str
    content: bytes
    more: tuple[str, ...] = ()  # remarks

    @property
    def where(self) -> str:
        return str(self.path)

    def is_on(self) -> bool:
        return self._marked(templates.plist_mark)

    def put(self) -> bool:
        return self._put(templates.plist_mark)

    def remove(self) -> bool:
        return self._remove(templates.plist_mark)

    def remarks(self) -> list[str]:
        return [NO_END, *self.more]

    def _kept(self) -> bytes | None:
        try:
            return read_bounded(self.path)
        except FileNotFoundError:
            return None

    def _marked(self, mark_of: Callable[[bytes], str]) -> bool:
        with os_errors_as_b2d_errors(self.path):
            kept = self._kept()
        return kept is not None and mark_of(kept) == self.mark

    def _put(self, mark_of: Callable[[bytes], str]) -> bool:
        with os_errors_as_b2d_errors(self.path):
            if self._kept() == self.content:
                return False
            if os.path.lexists(self.path) and not self._marked(mark_of):
                raise AutostartExistsError(
                    f"{self.path} is not this machine's", hint="move it away, or another --vm NAME"
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, self.content)
        return True

    def _remove(self, mark_of: Callable[[bytes], str]) -> bool:
        if not self._marked(mark_of):
            return False
        with os_errors_as_b2d_errors(self.path):
            self.path.unlink()
        return True


class SystemdUnit(LaunchAgent):
    """A file that systemd reads, with the link by which it is wanted at login."""

    __slots__ = ()

    @property
    def link(self) -> Path:
        """As `systemctl --user enable` makes it, which needs a session to talk to."""
        return self.path.parent / "default.target.wants" / self.path.name

    def is_on(self) -> bool:
        return self._marked(templates.unit_mark) and self.link.is_symlink()

    def put(self) -> bool:
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
        if not self._remove(templates.unit_mark):
            return False
        with os_errors_as_b2d_errors(self.link):
            self.link.unlink(missing_ok=True)
        self._reload()
        return True

    def remarks(self) -> list[str]:
        if not SYSTEMD_RUNS.is_dir():
            return ["systemd does not run here, and nothing else reads it", *self.more]
        return [AT_BOOT, *self.more]

    def _reload(self) -> None:
        """Where no session can be talked to, it is read at the next login."""
        with suppress(B2dError):
            processes.run(["systemctl", "--user", "daemon-reload"], timeout_s=ANSWER_S)


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """A task of Windows' Task Scheduler."""

    name: str
    mark: str
    content: bytes
    draft: Path  # schtasks reads a file

    @property
    def where(self) -> str:
        return self.name

    def is_on(self) -> bool:
        return self.mark.encode() in self._kept()

    def put(self) -> bool:
        kept = self._kept()
        if kept and self.mark.encode() not in kept:
            raise AutostartExistsError(
                f"the task {self.name} is not this machine's", hint=f"schtasks /Delete /TN {self.name}"
            )
        with os_errors_as_b2d_errors(self.draft):
            write_atomic(self.draft, self.content)
            try:
                self._ask("/Create", "/TN", self.name, "/XML", str(self.draft), "/F")
            finally:
                self.draft.unlink()
        return not kept

    def remove(self) -> bool:
        if not self.is_on():
            return False
        self._ask("/Delete", "/TN", self.name, "/F")
        return True

    def remarks(self) -> list[str]:
        return [NO_END]

    def _kept(self) -> bytes:
        """The task as it is kept, in one byte a sign: the mark is ASCII; nothing where there is none."""
        done = self._run("/Query", "/TN", self.name, "/XML")
        return done.stdout.replace(b"\0", b"") if done.exit_code == 0 else b""

    def _run(self, *arguments: str) -> CommandResult:
        return processes.run(["schtasks", *arguments], timeout_s=ANSWER_S)

    def _ask(self, *arguments: str) -> None:
        done = self._run(*arguments)
        if done.exit_code != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise B2dError(f"schtasks {arguments[0]}: {said or done.exit_code}")
