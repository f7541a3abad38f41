"""Where a copy comes from and goes to, as it is typed: a path of this host, a machine's ([VM]:PATH), a stream (-)."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import PurePosixPath

from b2d import machine_names
from b2d.errors import ConfigError

STREAM = "-"
HOME = "."  # where commands begin in a guest


@dataclass(frozen=True, slots=True)
class CopyEndpoint:
    """One side of a copy."""

    path: str
    machine: str | None = None  # its name, "" for the one that is meant anyway; None: this host

    @property
    def is_stream(self) -> bool:
        return self.machine is None and self.path == STREAM


def parse_endpoint(typed: str) -> CopyEndpoint:
    """A machine's where a colon comes before any slash, as for scp; of Windows a drive is none. Raises ConfigError."""
    if not typed:
        raise ConfigError("a path cannot be empty", hint="b2d cp FILE :PATH")
    machine, colon, path = typed.partition(":")
    windows = sys.platform == "win32"
    if not colon or "/" in machine or (windows and (len(machine) == 1 or "\\" in machine)):
        return CopyEndpoint(typed)
    if machine and not machine_names.is_valid(machine):
        here = shlex.quote(f"./{typed}")
        raise ConfigError(f"{machine!r} is no name of a machine", hint=f"{here}, if it is a file of this host")
    return CopyEndpoint(_from_home(path), machine)


def _from_home(path: str) -> str:
    """A guest's path for commands that begin in the home, none of which takes it for an option."""
    if path == "~" or path.startswith("~/"):
        path = path[2:].lstrip("/")
    return f"./{path}" if path.startswith("-") else path or HOME


def last_name(path: str) -> str:
    """What a copy of it is called; "" where all that is in a folder is meant: `.`, `/`, `folder/.`, `folder/..`."""
    last = path.rstrip("/").rpartition("/")[2]
    return "" if last in (".", "..") else last


def split(path: str) -> tuple[str, str]:
    """A guest's path as the folder to go to, and what to take there: a link itself, unless a slash follows it."""
    if path.endswith("/") or not last_name(path):
        return path, "."
    found = PurePosixPath(path)
    return str(found.parent), found.name
