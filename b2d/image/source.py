"""The sources of images (debian, boot2docker, an address or a file) and their normal form."""

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
    """Return the normal form of a source: the absolute path of a file, a hash in lower case.

    Raises ConfigError for a missing file, and for a fragment after # that is not a hash.
    """
    if not is_file(source):
        address, sha256 = split_hash(source)
        return f"{address}{PIN}{sha256}" if sha256 else address
    path = Path(os.path.expanduser(_path(source))).absolute()  # noqa: PTH111  pathlib's raises for an unknown ~user
    if not path.is_file():
        raise ConfigError(f"the image {source!r} does not exist", hint="use debian, boot2docker, an address or a file")
    return str(path)


def split_hash(source: str) -> tuple[str, str]:
    """Return the address and its #sha256= fragment in lower case, "" for none. Raises ConfigError."""
    address, separator, fragment = source.partition("#")
    if not separator or is_file(source):
        return source, ""
    match = PINNED.fullmatch(source)
    if match is None:
        raise ConfigError(
            f"{'#' + fragment[:100]!r} after an address is not an image hash",
            hint=f"use ADDRESS{PIN}HASH with 64 hexadecimal digits",
        )
    return address, match[1].lower()


def is_file(source: str) -> bool:
    """Return whether the source is a path or a file:// address."""
    return source not in (DEBIAN, BOOT2DOCKER) and ("://" not in source or source.lower().startswith(FILE_URL))


def is_releases(source: str) -> bool:
    """Return whether the source is a releases API (GitHub's or an Enterprise's), or one release there."""
    return API.fullmatch(source.partition("#")[0]) is not None


def _path(source: str) -> str:
    if not source.lower().startswith(FILE_URL):
        return source
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(source)
    if parts.query or parts.fragment:  # a hash there would be ignored
        raise ConfigError(
            f"the file address {source[:200]!r} must end with its path",
            hint="check the hash with sha256sum FILE; write % in a path as %25",
        )
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{source!r} is on another host", hint="use file:/// and the path")
    return url2pathname(parts.path)
