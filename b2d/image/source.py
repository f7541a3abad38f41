"""A source, which an image comes from: debian, boot2docker, an address or a file, and its one spelling."""

import os
import re
from pathlib import Path

from b2d.errors import ConfigError

DEBIAN, BOOT2DOCKER = "debian", "boot2docker"
FILE_URL = "file://"
PIN = "#sha256="
PINNED = re.compile(r"[^#]*#sha256=([0-9a-f]{64})", re.IGNORECASE)
API = re.compile(r"https?://[^/?#]+(/api/v3)?/repos/[^/?#]+/[^/?#]+/releases(/latest|/tags/[^/?#]+)?/?(\?[^#]*)?")


def describe_source(source: str) -> str:
    """Return the name under which images of a source are kept: a file by its whole path, a hash in small letters.

    Raises ConfigError for a file that is not there, and for what stands behind a # and is no hash.
    """
    if not is_file(source):
        address, sha256 = pinned(source)
        return f"{address}{PIN}{sha256}" if sha256 else address
    path = Path(os.path.expanduser(_path(source))).absolute()  # noqa: PTH111  pathlib's raises for a ~ that is nobody's
    if not path.is_file():
        raise ConfigError(f"there is no image {source!r}", hint="give debian, boot2docker, an address or a file")
    return str(path)


def pinned(source: str) -> tuple[str, str]:
    """Split what follows #sha256= from an address, in small letters; "" where there is nothing. Raises ConfigError."""
    address, mark, fragment = source.partition("#")
    if not mark or is_file(source):
        return source, ""
    found = PINNED.fullmatch(source)
    if found is None:
        raise ConfigError(
            f"{'#' + fragment[:100]!r} behind an address is not the hash of an image",
            hint=f"ADDRESS{PIN} and its 64 hexadecimal digits",
        )
    return address, found[1].lower()


def is_file(source: str) -> bool:
    """True for a path, and for file://, which is another way to write one."""
    return source not in (DEBIAN, BOOT2DOCKER) and ("://" not in source or source.lower().startswith(FILE_URL))


def is_releases(source: str) -> bool:
    """True for the address of a releases API (GitHub's or an Enterprise's), or of one release there."""
    return API.fullmatch(source.partition("#")[0]) is not None


def _path(source: str) -> str:
    if not source.lower().startswith(FILE_URL):
        return source
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(source)
    if parts.query or parts.fragment:  # a hash there would not be looked at
        raise ConfigError(
            f"{source[:200]!r} is a file, and nothing follows its path", hint="sha256sum FILE; a % in a path is %25"
        )
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{source!r} is on another host", hint="file:///, and then the path")
    return url2pathname(parts.path)
