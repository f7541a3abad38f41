"""Choose Debian mirrors: the one that is set, else those of apt on this host, else the recipe's."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from b2d.errors import ConfigError
from b2d.host.files import read_text_tail
from b2d.network.http_client import display_url

APT = Path("/etc/apt")
MAIN, SECURITY = "debian", "debian-security"
OPTIONS = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True, slots=True)
class Mirror:
    """The address of each part of the archive, "debian" and "debian-security", without a final slash."""

    bases: dict[str, str]

    def url(self, base: str, path: str) -> str:
        """Return the address of a file."""
        return f"{self.bases[base]}/{path}"

    @property
    def name(self) -> str:
        """The mirror's address for messages."""
        return display_url(self.bases[MAIN])


@dataclass(frozen=True, slots=True)
class _Source:
    """An entry of apt's sources."""

    url: str  # without a final slash
    suites: tuple[str, ...]
    components: tuple[str, ...]

    @property
    def base(self) -> str:
        return self.url.rpartition("/")[2]


def choose(setting: str, listed: tuple[str, ...], apt: Path = APT) -> list[Mirror]:
    """Return the mirrors in the order to try. Raises ConfigError for an invalid setting."""
    if setting:
        return [_complete_mirror(_checked(setting))]
    return from_apt(apt) or [_complete_mirror(url) for url in listed]


def from_apt(apt: Path) -> list[Mirror]:
    """Return the Debian mirrors of apt on this host, the best first; none on Ubuntu.

    Other archives may end in /debian too (Docker's does): the signature shows which one is Debian's.
    """
    candidates = [
        source
        for source in (*_read_one_line(apt), *_read_deb822(apt))
        if _is_web(source.url) and "main" in source.components
    ]
    security = {source.base: source.url for source in reversed(candidates) if source.base == SECURITY}
    main = [source for source in candidates if source.base == MAIN]
    main.sort(key=lambda source: not any(suite.endswith("-updates") for suite in source.suites))
    return [Mirror(_complete_mirror(url).bases | security) for url in dict.fromkeys(source.url for source in main)]


def _complete_mirror(url: str) -> Mirror:
    """Return a mirror that has both parts side by side, in Debian's own layout."""
    url = url.rstrip("/")
    parent = url.removesuffix("/" + MAIN)
    return Mirror({MAIN: url, SECURITY: f"{parent}/{SECURITY}"})


def _checked(setting: str) -> str:
    if not _is_web(setting):
        raise ConfigError(
            f"{setting!r} is not a valid mirror address", hint="use an address such as https://ftp.de.debian.org/debian"
        )
    return setting


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # an unclosed IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _files(apt: Path, ending: str) -> list[Path]:
    folder = apt / "sources.list.d"
    return sorted(folder.glob(f"*{ending}")) if folder.is_dir() else []


def _read_one_line(apt: Path) -> list[_Source]:
    """Read the entries in the one-line format: deb [options] address suite component."""
    sources = []
    for path in [apt / "sources.list", *_files(apt, ".list")]:
        for line in _text(path).splitlines():
            words = OPTIONS.sub(" ", line.partition("#")[0]).split()
            if words[:1] == ["deb"] and len(words) > 2:
                sources.append(_Source(words[1].rstrip("/"), (words[2],), tuple(words[3:])))
    return sources


def _read_deb822(apt: Path) -> list[_Source]:
    """Read the entries in the deb822 format."""
    from debian.deb822 import Deb822

    sources = []
    for path in _files(apt, ".sources"):
        for stanza in Deb822.iter_paragraphs(_text(path)):
            if "deb" in stanza.get("Types", "").split() and stanza.get("Enabled", "yes").lower() != "no":
                suites, components = (tuple(stanza.get(key, "").split()) for key in ("Suites", "Components"))
                sources += [_Source(url.rstrip("/"), suites, components) for url in stanza.get("URIs", "").split()]
    return sources


def _text(path: Path) -> str:
    return read_text_tail(path)
