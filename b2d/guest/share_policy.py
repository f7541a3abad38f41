"""Which folders of this host a machine gets: what the setting `share` stands for now, and what is never shared.

Root in the guest is taken for hostile, and what a folder holds is checked here, on the host: nothing that is mounted
inside the guest would prove anything. Who can write b2d's own folder is the person, so that is never shared.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from b2d import folders
from b2d.errors import ConfigError
from b2d.files import text_of

EACH = "/*"  # ends a path in the setting: each folder directly in it
NOTHING = "none"  # of a machine that was told to have none since it was made
DEFAULT_HOME = "~/.b2d"
MOST = 64  # folders: under QEMU each is a device
# Folders in a home that hold programs, browsers' profiles or keys although no dot begins their names, in small letters:
# on PATH as it is by default, of macOS, of Ubuntu's snaps, of Windows. Its PowerShell begins with a file in Documents.
PERSONAL = frozenset({"bin", "sbin", "library", "applications", "snap", "appdata", "application data", "scoop"})
PERSONAL_WINDOWS = PERSONAL | {"local settings", "documents", "my documents"}
# Folders that desktops make in every home, and where nobody works: each would cost an emulated boot a tenth of a second
MEDIA = frozenset({"downloads", "music", "pictures", "photos", "movies", "videos", "public", "templates"})
MEDIA_KINDS = ("DOWNLOAD", "MUSIC", "PICTURES", "VIDEOS", "PUBLICSHARE", "TEMPLATES")  # as user-dirs.dirs calls them
MEDIA_LINE = re.compile(rf'^XDG_(?:{"|".join(MEDIA_KINDS)})_DIR="\$HOME/([^"/]+)/?"', re.MULTILINE)
SECRET = (
    ".ssh",
    ".gnupg",
    ".aws",
    ".config",
    ".docker",
    ".kube",
    ".mozilla",
    ".bashrc",
    ".profile",
    "Library",
    "AppData",
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The folders of a machine, and a sentence for each that it does not get."""

    folders: tuple[str, ...]  # as folders.parse() reads them
    left_out: tuple[str, ...] = ()


def words(share: Sequence[str]) -> tuple[str, ...]:
    """The setting `share` with whole paths. Raises ConfigError for what is no path, or what the guest has itself."""
    return tuple(_text(folders.parse(text)) for text in share)


def select(share: Sequence[str], b2d_home: Path) -> Selection:
    """Look at the folders as they are now; one that is named is shared although it is not there. Raises ConfigError."""
    found: list[str] = []
    left_out: list[str] = []
    for text in _named(share):
        folder = folders.parse(text)
        if reason := refusal(folder.host, b2d_home):
            left_out.append(f"{folder.host} is not shared with the machine: {reason}")
        elif folder.host.endswith(EACH):
            for path in _each(Path(folder.host).parent):
                if reason := refusal(path, b2d_home):
                    left_out.append(f"{path} is not shared with the machine: {reason}")
                elif one := _parsed(path, folder.read_only):
                    found.append(one)
        else:
            found.append(_text(folder))
    chosen = []
    for text in dict.fromkeys(found):
        if outer := _left(folders.parse(text).host, found):
            reason = f"it leads out of {outer}, which the machine writes, by a link"
            left_out.append(f"{folders.parse(text).host} is not shared with the machine: {reason}")
        else:
            chosen.append(text)
    if rest := chosen[MOST:]:
        left_out.append(f"{len(rest)} folders are not shared, as a machine has {MOST} at most: {', '.join(rest)}")
    return Selection(tuple(chosen[:MOST]), tuple(left_out))


def _left(path: str, shared: Sequence[str]) -> str:
    """The folder that the guest writes and that `path` is in by its name, but not by its links; "" for none.

    Root in the guest can put a link there in the place of a folder, and would have what that leads to at the next boot.
    """
    if os.path.realpath(path) == path:
        return ""
    written = [one.host for one in map(folders.parse, shared) if not one.read_only]
    inside = (one for one in written if any(_is_within(above, one) for above in Path(path).parents))
    return next((one for one in inside if not _is_within(path, one)), "")


def refusal(path: str, b2d_home: Path) -> str:
    """Why a folder is never shared, "" where it may be; links are followed, as who shares it would."""
    if reason := refusal_inside(path, b2d_home):
        return reason
    for own in _own(b2d_home):
        if not path.endswith(EACH) and _is_within(own, path) and (own == b2d_home or os.path.lexists(own)):
            return f"{own} lies in it, where b2d keeps its keys"
    return ""


def refusal_inside(path: str, b2d_home: Path) -> str:
    """The same for a machine that goes on from saved: one of an older b2d may have a folder above b2d's own."""
    within = [own for own in _own(b2d_home) if _is_within(path.removesuffix(EACH), own)]
    return f"it lies in {within[0]}, where b2d keeps its keys" if within else ""


def _own(b2d_home: Path) -> tuple[Path, Path]:
    return b2d_home, Path(os.path.expanduser(DEFAULT_HOME))  # noqa: PTH111  pathlib's raises where there is no home


def check(share: Sequence[str], b2d_home: Path) -> None:
    """Raise ConfigError for a folder that somebody names, and that is never shared."""
    for text in _named(share):
        host = folders.parse(text).host
        if reason := refusal(host, b2d_home):
            hint = 'share = ["~/*"]: the folders in your home that are not hidden; or ["~/src"]: one of them'
            raise ConfigError(f"share: {host} cannot be shared: {reason}", hint=hint)


def exposed(share: Sequence[str]) -> list[str]:
    """Secrets and start-up files of a person that lie directly in folders which are shared whole."""
    named = [folders.parse(text).host for text in share]
    whole = [Path(host) for host in named if not host.endswith(EACH)]
    return [str(folder / name) for folder in whole for name in SECRET if os.path.lexists(folder / name)]


def of_older(shared: Sequence[str]) -> tuple[str, ...]:
    """What stands for the folders of a machine of an older b2d, which shared the whole home unasked."""
    return tuple(_text(one, EACH) if is_home(one.host) else _text(one) for one in map(folders.parse, shared))


def is_home(path: str) -> bool:
    """True for the whole home of the person who runs b2d, and for a folder above it."""
    return _is_within(os.path.expanduser("~"), path)  # noqa: PTH111  pathlib's raises where there is none


def _named(share: Sequence[str]) -> list[str]:
    return [text for text in share if text != NOTHING]


def _each(folder: Path) -> Iterator[str]:
    """The folders in it that are neither hidden nor links, nor hold what is a person's own, by name."""
    real = folder.resolve()
    personal = (PERSONAL_WINDOWS if os.name == "nt" else PERSONAL) | MEDIA | _media(real)
    if real == real.parent:
        return  # a system's folders are no projects; it is the home of users who have none
    try:
        names = sorted(entry.name for entry in os.scandir(real) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        is_junction = os.path.normcase((real / name).resolve()) != os.path.normcase(real / name)
        if name.startswith(".") or name.casefold() in personal or name.endswith(folders.READ_ONLY) or is_junction:
            continue
        if os.access(real / name, os.R_OK | os.X_OK):
            yield str(folder / name)


def _media(home: Path) -> set[str]:
    """Their names in the person's own language, as Linux's desktops write them down."""
    return {name.casefold() for name in MEDIA_LINE.findall(text_of(home / ".config" / "user-dirs.dirs"))}


def _parsed(path: str, read_only: bool) -> str:
    """It as the setting would have it, "" where it could not be named: the guest has it itself, say."""
    try:
        return _text(folders.parse(path + (folders.READ_ONLY if read_only else "")))
    except ConfigError:
        return ""


def _text(folder: folders.Folder, more: str = "") -> str:
    return folder.host + more + (folders.READ_ONLY if folder.read_only else "")


def _is_within(path: str | Path, folder: str | Path) -> bool:
    """True when `path` is the folder or lies in it, by what they are: names may differ in case, or be links."""
    real, above = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if real.is_relative_to(above):
        return True
    wanted = _identity(above)
    return wanted is not None and any(_identity(one) == wanted for one in (real, *real.parents))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
