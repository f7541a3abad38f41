"""Which Debian mirrors to ask: the one that was set, else apt's own, else the recipe's."""

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
    """Where each base of the archive lies: {"debian": url, "debian-security": url}, without a final slash."""

    bases: dict[str, str]

    def url(self, base: str, path: str) -> str:
        """Where a file of a base is."""
        return f"{self.bases[base]}/{path}"

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return display_url(self.bases[MAIN])


@dataclass(frozen=True, slots=True)
class _Source:
    """One entry of apt's."""

    url: str  # without a final slash
    suites: tuple[str, ...]
    components: tuple[str, ...]

    @property
    def base(self) -> str:
        return self.url.rpartition("/")[2]


def choose(setting: str, listed: tuple[str, ...], apt: Path = APT) -> list[Mirror]:
    """The mirrors to try, in order. Raises ConfigError for a setting that cannot be one."""
    if setting:
        return [_whole(_checked(setting))]
    return from_apt(apt) or [_whole(url) for url in listed]


def from_apt(apt: Path) -> list[Mirror]:
    """The Debian mirrors that apt on this host uses, the likeliest first; none where it is Ubuntu's.

    Others' archives may end in /debian too (Docker's does): which one is Debian's, its signature tells.
    """
    found = [
        source for source in (*_one_line(apt), *_deb822(apt)) if _is_web(source.url) and "main" in source.components
    ]
    security = {source.base: source.url for source in reversed(found) if source.base == SECURITY}
    main = [source for source in found if source.base == MAIN]
    main.sort(key=lambda source: not any(suite.endswith("-updates") for suite in source.suites))
    return [Mirror(_whole(url).bases | security) for url in dict.fromkeys(source.url for source in main)]


def _whole(url: str) -> Mirror:
    """A mirror that has both bases side by side, as Debian's own layout is."""
    url = url.rstrip("/")
    parent = url.removesuffix("/" + MAIN)
    return Mirror({MAIN: url, SECURITY: f"{parent}/{SECURITY}"})


def _checked(setting: str) -> str:
    if not _is_web(setting):
        raise ConfigError(
            f"{setting!r} cannot be a mirror", hint="give an address such as https://ftp.de.debian.org/debian"
        )
    return setting


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _files(apt: Path, ending: str) -> list[Path]:
    folder = apt / "sources.list.d"
    return sorted(folder.glob(f"*{ending}")) if folder.is_dir() else []


def _one_line(apt: Path) -> list[_Source]:
    """The entries in the old format: deb [options] address suite component."""
    sources = []
    for path in [apt / "sources.list", *_files(apt, ".list")]:
        for line in _text(path).splitlines():
            words = OPTIONS.sub(" ", line.partition("#")[0]).split()
            if words[:1] == ["deb"] and len(words) > 2:
                sources.append(_Source(words[1].rstrip("/"), (words[2],), tuple(words[3:])))
    return sources


def _deb822(apt: Path) -> list[_Source]:
    """The entries in the format of stanzas."""
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
