"""The source and target of a copy as typed: a path of this host, of a machine ([VM]:PATH), or a stream (-)."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import PurePosixPath

from b2d import machine_names
from b2d.errors import ConfigError

STREAM = "-"
HOME = "."  # the working folder of commands in a guest


@dataclass(frozen=True, slots=True)
class CopyEndpoint:
    """A source or target of a copy."""

    path: str
    machine: str | None = None  # its name, "" for the default machine; None: this host

    @property
    def is_stream(self) -> bool:
        """Whether it is stdin or stdout."""
        return self.machine is None and self.path == STREAM


def parse_endpoint(typed: str) -> CopyEndpoint:
    """Parse an endpoint; it is a machine's where a colon comes before any slash, as for scp.

    A drive letter of Windows is not a machine. Raises ConfigError.
    """
    if not typed:
        raise ConfigError("a path cannot be empty", hint="b2d cp FILE :PATH")
    machine, colon, path = typed.partition(":")
    is_windows = sys.platform == "win32"
    if not colon or "/" in machine or (is_windows and (len(machine) == 1 or "\\" in machine)):
        return CopyEndpoint(typed)
    if machine and not machine_names.is_valid(machine):
        quoted = shlex.quote(f"./{typed}")
        raise ConfigError(f"{machine!r} is not a valid machine name", hint=f"{quoted} for a file of this host")
    return CopyEndpoint(_from_home(path), machine)


def _from_home(path: str) -> str:
    """Return a guest's path relative to the home folder, which no command takes for an option."""
    if path == "~" or path.startswith("~/"):
        path = path[2:].lstrip("/")
    return f"./{path}" if path.startswith("-") else path or HOME


def last_name(path: str) -> str:
    """Return the name of a copy; "" for all of a folder's content: `.`, `/`, `folder/.`, `folder/..`."""
    last = path.rstrip("/").rpartition("/")[2]
    return "" if last in (".", "..") else last


def split(path: str) -> tuple[str, str]:
    """Split a guest's path into its folder and name; a link itself is copied, unless a slash follows it."""
    if path.endswith("/") or not last_name(path):
        return path, "."
    parsed = PurePosixPath(path)
    return str(parsed.parent), parsed.name
