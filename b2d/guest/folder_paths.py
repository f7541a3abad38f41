"""Folders of this host that the guest has too, at the same path: which may be, and where they are in there."""

import os
import re
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from b2d.errors import ConfigError

READ_ONLY = ":ro"
VIRTIOFSD, QEMU = (1, 11), (8, 2)  # before these versions no machine can be saved that has a folder by virtiofs
# What the guest itself lives in; b2d's own user there is docker, whose keys are in its home folder.
WHOLE = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/home/docker")
ITSELF = ("/", "/home", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/lib", "/var/log")
STORES = ("/var/lib/docker", "/var/lib/boot2docker")


@dataclass(frozen=True, slots=True)
class Folder:
    """One of them."""

    host: str
    guest: str
    read_only: bool


def parse(text: str) -> Folder:
    """A folder as it is written in the setting `share`: PATH or PATH:ro. Raises ConfigError for one that cannot be."""
    path = os.path.expanduser(text.removesuffix(READ_ONLY))  # noqa: PTH111  pathlib's raises for a ~ that is nobody's
    if not PurePath(path).is_absolute() or "\n" in path or "\r" in path:
        raise ConfigError(f"share: {text!r} is not the whole path of a folder", hint='share = ["~", "/data:ro"]')
    host = os.path.normpath(path)
    guest = guest_path(host)
    if _is_the_guest_s(PurePosixPath(guest)):
        raise ConfigError(
            f"share: {host} cannot be shared, the guest has {guest} of its own",
            hint="share a folder inside it, or elsewhere",
        )
    return Folder(host, guest, text.endswith(READ_ONLY))


def guest_path(path: str) -> str:
    """Where a folder is in the guest: C:\\Users\\me is /c/Users/me there, as with boot2docker."""
    drive = re.match("([A-Za-z]):", path)
    if drive is None:
        return path
    return f"/{drive[1].lower()}" + path[2:].replace("\\", "/").rstrip("/")


def _is_the_guest_s(path: PurePosixPath) -> bool:
    return str(path) in ITSELF or any(path.is_relative_to(folder) for folder in (*WHOLE, *STORES))
