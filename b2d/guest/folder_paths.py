"""Shared folders of this host: which are allowed, and their path in the guest."""

import os
import re
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from b2d.errors import ConfigError

READ_ONLY = ":ro"
VIRTIOFSD, QEMU = (1, 11), (8, 2)  # older versions cannot save a machine with a virtiofs folder
# Folders of the guest's own system, with the home of its user docker, which holds keys.
WHOLE = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/home/docker")
ITSELF = ("/", "/home", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/lib", "/var/log")
STORES = ("/var/lib/docker", "/var/lib/boot2docker")


@dataclass(frozen=True, slots=True)
class Folder:
    """A shared folder."""

    host: str
    guest: str
    read_only: bool


def parse(text: str) -> Folder:
    """Parse a folder of the setting `share`: PATH or PATH:ro. Raises ConfigError for an invalid one."""
    path = os.path.expanduser(text.removesuffix(READ_ONLY))  # noqa: PTH111  pathlib's raises for an unknown ~user
    if not PurePath(path).is_absolute() or "\n" in path or "\r" in path:
        raise ConfigError(f"share: {text!r} is not an absolute path of a folder", hint='share = ["~", "/data:ro"]')
    host = os.path.normpath(path)
    guest = guest_path(host)
    if _is_guest_system(PurePosixPath(guest)):
        raise ConfigError(
            f"share: {host} cannot be shared: the guest has its own {guest}",
            hint="share a folder inside it, or another one",
        )
    return Folder(host, guest, text.endswith(READ_ONLY))


def guest_path(path: str) -> str:
    r"""Return a folder's path in the guest: C:\Users\me is /c/Users/me there, as with boot2docker."""
    drive = re.match("([A-Za-z]):", path)
    if drive is None:
        return path
    return f"/{drive[1].lower()}" + path[2:].replace("\\", "/").rstrip("/")


def _is_guest_system(path: PurePosixPath) -> bool:
    return str(path) in ITSELF or any(path.is_relative_to(folder) for folder in (*WHOLE, *STORES))
