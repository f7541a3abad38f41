"""A source, which an image comes from: debian, boot2docker, an address or a file, and its one spelling."""

import os
import re
from pathlib import Path

from b2d.errors import ConfigError

DEBIAN, BOOT2DOCKER = "debian", "boot2docker"
FILE_URL = "file://"
API = re.compile(r"https?://[^/?#]+(/api/v3)?/repos/[^/?#]+/[^/?#]+/releases(/latest|/tags/[^/?#]+)?/?(\?[^#]*)?")


def named(source: str) -> str:
    """The name under which images of a source are kept: a file by its whole path. Raises ConfigError."""
    if not is_file(source):
        return source
    path = Path(os.path.expanduser(_path(source))).absolute()  # noqa: PTH111  pathlib's raises for a ~ that is nobody's
    if not path.is_file():
        raise ConfigError(f"there is no image {source!r}", hint="give debian, boot2docker, an address or a file")
    return str(path)


def is_file(source: str) -> bool:
    """True for a path, and for file://, which is another way to write one."""
    return source not in (DEBIAN, BOOT2DOCKER) and ("://" not in source or source.lower().startswith(FILE_URL))


def is_releases(source: str) -> bool:
    """True for the address of a releases API (GitHub's or an Enterprise's), or of one release there."""
    return API.fullmatch(source) is not None


def _path(source: str) -> str:
    if not source.lower().startswith(FILE_URL):
        return source
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(source)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{source!r} is on another host", hint="file:///, and then the path")
    return url2pathname(parts.path)
