"""Which folders of this host a machine gets: what the setting `share` stands for now, and what is never shared.

Root in the guest is taken for hostile, and what a folder holds is checked here, on the host: nothing that is mounted
inside the guest would prove anything. Who can write b2d's own folder is the person, so that is never shared.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from b2d.errors import ConfigError
from b2d.guest import folder_paths, share_overlaps
from b2d.guest.share_overlaps import is_within
from b2d.host.files import read_text_tail

EACH = "/*"  # ends a path in the setting: each folder directly in it
NOT_SHARED = "is not shared with the machine"
BY_NAME = "it is, if `b2d set share=` names it"
NOTHING = "none"  # of a machine that was told to have none since it was made
DEFAULT_HOME = "~/.b2d"
OWN_DEPTH = 4  # folders, one in another: home, machines, a machine, its certificates
MOST = 64  # folders: under QEMU each is a device
# Folders in a home that hold programs, browsers' profiles or keys although no dot begins their names, in small letters:
# on PATH as it is by default, of macOS, of Ubuntu's snaps, of Windows. Its PowerShell begins with a file in Documents.
PERSONAL = frozenset({"bin", "sbin", "library", "applications", "snap", "appdata", "application data", "scoop"}) | {
    *("anaconda3", "miniconda3", "miniforge3", "mambaforge", "micromamba", "google-cloud-sdk", "flutter", "homebrew"),
    *("virtualbox vms", "vmware", "virtual machines", "parallels"),  # whose files their hypervisors obey
}
PERSONAL_WINDOWS = PERSONAL | {"local settings", "documents", "my documents"}
# Folders that desktops make in every home, and where nobody works: each would cost an emulated boot a tenth of a second
MEDIA = frozenset({"downloads", "music", "pictures", "photos", "movies", "videos", "public", "templates"})
MEDIA_KINDS = ("DOWNLOAD", "MUSIC", "PICTURES", "VIDEOS", "PUBLICSHARE", "TEMPLATES")  # as user-dirs.dirs calls them
PROJECT = re.compile(r"\.|node_modules$")  # begins the name of a folder whose programs are a project's
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
    return tuple(_text(folder_paths.parse(text)) for text in share)


def select(share: Sequence[str], b2d_home: Path) -> Selection:
    """Look at the folders as they are now; one that is named is shared although it is not there. Raises ConfigError."""
    left_out: list[str] = []
    chosen = _wanted(share, b2d_home, left_out)
    for text, reason in share_overlaps.refusals(chosen).items():
        chosen.remove(text)
        left_out.append(f"{text} {NOT_SHARED}: {reason}")
    if rest := chosen[MOST:]:
        left_out.append(f"{len(rest)} folders are not shared, as a machine has {MOST} at most: {', '.join(rest)}")
    return Selection(tuple(chosen[:MOST]), tuple(left_out))


def _wanted(share: Sequence[str], b2d_home: Path, left_out: list[str]) -> list[str]:
    """What is named, and what is in what ends in /* now, each once; what is never shared is added to `left_out`."""
    found: list[str] = []
    named: list[str] = []
    own = _own(b2d_home)
    for text in _named(share):
        folder = folder_paths.parse(text)
        if reason := _refusal(folder.host, own):
            left_out.append(f"{folder.host} {NOT_SHARED}: {reason}")
        elif folder.host.endswith(EACH):
            for path in _each(Path(folder.host).parent):
                if reason := _refusal(path, own) or _holds_program(path):
                    left_out.append(f"{path} {NOT_SHARED}: {reason}")
                elif one := _parsed(path, folder.read_only):
                    found.append(one)
        else:
            named.append(_text(folder))
    return _once(found, named)


def _once(found: Sequence[str], named: Sequence[str]) -> list[str]:
    """Each folder once: as it was named, where it is one of `PATH/*` too, and else read-only rather than not."""
    modes: dict[str, bool] = {}
    for texts in (found, named):
        hosts = [folder_paths.parse(text).host for text in texts]
        modes |= {host: host + folder_paths.READ_ONLY in texts for host in hosts}
    return [host + (folder_paths.READ_ONLY if read_only else "") for host, read_only in modes.items()]


def refusal(path: str, b2d_home: Path) -> str:
    """Why a folder is never shared, "" where it may be; links are followed, as who shares it would."""
    return _refusal(path, _own(b2d_home))


def refusal_inside(path: str, b2d_home: Path) -> str:
    """The same for a machine that goes on from saved: one of an older b2d may have a folder above b2d's own."""
    return _refusal_inside(path, _own(b2d_home))


def _refusal(path: str, own: Sequence[Path]) -> str:
    if reason := _refusal_inside(path, own):
        return reason
    there = [one for number, one in enumerate(own) if not number or os.path.lexists(one)]  # the first may be to come
    holds = [] if path.endswith(EACH) else [one for one in there if is_within(one, path)]
    return f"{holds[0]} lies in it, where b2d keeps its keys" if holds else ""


def _refusal_inside(path: str, own: Sequence[Path]) -> str:
    within = [one for one in own if is_within(path.removesuffix(EACH), one)]
    return f"it lies in {within[0]}, where b2d keeps its keys" if within else ""


def _own(b2d_home: Path) -> tuple[Path, ...]:
    """Where b2d's files lie: its homes, and what its owner has moved somewhere else, with a link in its place."""
    homes = b2d_home, Path(os.path.expanduser(DEFAULT_HOME))  # noqa: PTH111  pathlib's raises where there is no home
    return (*homes, *(link for home in homes for link in _links(home, OWN_DEPTH)))


def _links(folder: Path, depth: int) -> Iterator[Path]:
    """The links in a folder, and in those below it, so deep."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # there is none, or it is not this user's to see
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        if depth > 1 and entry.is_dir():
            yield from _links(Path(entry.path), depth - 1)


def _holds_program(path: str) -> str:
    """Why a folder is not shared unless it is named: whoever can write what a person runs is that person soon."""
    if within := [one for one in _programs() if is_within(one, path)]:
        return f"b2d itself is installed there ({within[0]}); {BY_NAME}"
    on_path = [one for one in _command_folders(os.environ) if is_within(one, path)]
    return f"programs lie there, as PATH has {on_path[0]}; {BY_NAME}" if on_path else ""


def _programs() -> list[str]:
    """Where b2d's code lies, and the Python that it runs with."""
    return list(dict.fromkeys([str(Path(__file__).resolve().parent.parent), sys.prefix, sys.base_prefix]))


def _command_folders(environ: Mapping[str, str]) -> list[str]:
    """The folders of PATH but for those of a project: of its own environment, or its hidden or node_modules folder."""
    own = environ.get("VIRTUAL_ENV", "")
    folders_of_path = [one for one in environ.get("PATH", "").split(os.pathsep) if Path(one).is_absolute()]
    return [
        one
        for one in folders_of_path
        if not (own and is_within(one, own)) and not any(PROJECT.match(part) for part in Path(one).parts)
    ]


def check(share: Sequence[str], b2d_home: Path) -> None:
    """Raise ConfigError for a folder that somebody names, and that is never shared."""
    for text in _named(share):
        host = folder_paths.parse(text).host
        if reason := refusal(host, b2d_home):
            hint = 'share = ["~/*"]: the folders in your home that are not hidden; or ["~/src"]: one of them'
            raise ConfigError(f"share: {host} cannot be shared: {reason}", hint=hint)
    for text, reason in share_overlaps.refusals(_wanted(share, b2d_home, [])).items():
        raise ConfigError(f"share: {text} cannot be shared: {reason}", hint="name folders that lie beside each other")


def warning(share: Sequence[str]) -> str:
    """A sentence on what folders that are shared whole hold: a person's secrets and start-up files, or b2d; else ""."""
    named = [folder_paths.parse(text).host for text in _named(share)]
    whole = [Path(host) for host in named if not host.endswith(EACH)]
    found = [str(folder / name) for folder in whole for name in SECRET if os.path.lexists(folder / name)]
    found += [one for one in _programs() if any(is_within(one, folder) for folder in whole)]
    return f"root in the machine can read and change {', '.join(found)}, as share says" if found else ""


def of_older(shared: Sequence[str]) -> tuple[str, ...]:
    """What stands for the folders of a machine of an older b2d, which shared the whole home unasked."""
    return tuple(_text(one, EACH) if is_home(one.host) else _text(one) for one in map(folder_paths.parse, shared))


def is_home(path: str) -> bool:
    """True for the whole home of the person who runs b2d, and for a folder above it."""
    return is_within(os.path.expanduser("~"), path)  # noqa: PTH111  pathlib's raises where there is none


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
        if name.startswith(".") or name.casefold() in personal or name.endswith(folder_paths.READ_ONLY) or is_junction:
            continue
        if os.access(real / name, os.R_OK | os.X_OK):
            yield str(folder / name)


def _media(home: Path) -> set[str]:
    """Their names in the person's own language, as Linux's desktops write them down."""
    return {name.casefold() for name in MEDIA_LINE.findall(read_text_tail(home / ".config" / "user-dirs.dirs"))}


def _parsed(path: str, read_only: bool) -> str:
    """It as the setting would have it, "" where it could not be named: the guest has it itself, say."""
    try:
        return _text(folder_paths.parse(path + (folder_paths.READ_ONLY if read_only else "")))
    except ConfigError:
        return ""


def _text(folder: folder_paths.Folder, more: str = "") -> str:
    return folder.host + more + (folder_paths.READ_ONLY if folder.read_only else "")
