"""Which Debian mirrors to ask: the one that was set, else apt's own, else the recipe's."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from b2d.errors import ConfigError

APT = Path("/etc/apt")
MAIN, SECURITY = "debian", "debian-security"


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
        return self.bases[MAIN]


def choose(setting: str, listed: tuple[str, ...], apt: Path = APT) -> list[Mirror]:
    """The mirrors to try, in order. Raises ConfigError for a setting that cannot be one."""
    if setting:
        return [_whole(_checked(setting))]
    own = of_apt(apt)
    return [own] if own is not None else [_whole(url) for url in listed]


def of_apt(apt: Path) -> Mirror | None:
    """The Debian mirror that apt on this host uses, None where there is none (it may be Ubuntu's)."""
    found: dict[str, str] = {}
    for url in [*_one_line(apt), *_deb822(apt)]:
        base = url.rstrip("/").rpartition("/")[2]
        if base in (MAIN, SECURITY) and urlsplit(url).scheme in ("http", "https"):
            found.setdefault(base, url.rstrip("/"))
    if MAIN not in found:
        return None
    return Mirror(_whole(found[MAIN]).bases | found)


def _whole(url: str) -> Mirror:
    """A mirror that has both bases side by side, as Debian's own layout is."""
    url = url.rstrip("/")
    parent = url.removesuffix("/" + MAIN)
    return Mirror({MAIN: url, SECURITY: f"{parent}/{SECURITY}"})


def _checked(setting: str) -> str:
    parts = urlsplit(setting)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"{setting!r} cannot be a mirror", hint="give an address such as http://ftp.de.debian.org/debian"
        )
    return setting


def _files(apt: Path, ending: str) -> list[Path]:
    folder = apt / "sources.list.d"
    return sorted(folder.glob(f"*{ending}")) if folder.is_dir() else []


def _one_line(apt: Path) -> list[str]:
    """The addresses in the old format: deb [options] address suite component."""
    urls = []
    for path in [apt / "sources.list", *_files(apt, ".list")]:
        for line in _text(path).splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["deb"]:
                urls += [word for word in words[1:] if "://" in word][:1]
    return urls


def _deb822(apt: Path) -> list[str]:
    """The addresses in the format of stanzas."""
    from debian.deb822 import Deb822

    urls: list[str] = []
    for path in _files(apt, ".sources"):
        for stanza in Deb822.iter_paragraphs(_text(path)):
            if "deb" in stanza.get("Types", "").split() and stanza.get("Enabled", "yes").lower() != "no":
                urls += stanza.get("URIs", "").split()
    return urls


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
