"""Choose the folders of this host for a machine by the setting `share`, and refuse some always.

Root in the guest counts as hostile. A folder's content is checked on this host: mounts inside the guest would prove
nothing. Write access to b2d's own folder would give the user's rights, so that is never shared.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from b2d.config.loader import NOTHING  # stored for a machine that explicitly shares nothing
from b2d.errors import ConfigError
from b2d.guest import folder_paths, share_overlaps
from b2d.guest.share_overlaps import is_within
from b2d.host.files import read_text_tail

EACH = "/*"  # suffix of a path in the setting: each folder directly in it
NOT_SHARED = "is not shared with the machine"
BY_NAME = "to share it, name it in the setting share"
DEFAULT_HOME = "~/.b2d"
OWN_DEPTH = 4  # nested folders: home, machines, a machine, its certificates
MAX_FOLDERS = 64  # under QEMU each is a device
# Folders in a home with programs, browser profiles or keys that are not hidden, in lower case: on the default PATH, of
# macOS, of Ubuntu's snaps, of Windows, whose PowerShell runs a profile from Documents.
PERSONAL = frozenset({"bin", "sbin", "library", "applications", "snap", "appdata", "application data", "scoop"}) | {
    *("anaconda3", "miniconda3", "miniforge3", "mambaforge", "micromamba", "google-cloud-sdk", "flutter", "homebrew"),
    *(
        "virtualbox vms",
        "vmware",
        "virtual machines",
        "parallels",
    ),  # machines' files, which configure their hypervisors
}
PERSONAL_WINDOWS = PERSONAL | {"local settings", "documents", "my documents"}
# Folders that desktops create in every home: each would cost an emulated boot a tenth of a second
MEDIA = frozenset({"downloads", "music", "pictures", "photos", "movies", "videos", "public", "templates"})
MEDIA_KINDS = ("DOWNLOAD", "MUSIC", "PICTURES", "VIDEOS", "PUBLICSHARE", "TEMPLATES")  # keys of user-dirs.dirs
PROJECT = re.compile(r"\.|node_modules$")  # start of the name of a folder with a project's programs
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
    """The folders of a machine, and a sentence for each that is left out."""

    folders: tuple[str, ...]  # in the form of folder_paths.parse()
    left_out: tuple[str, ...] = ()


def words(share: Sequence[str]) -> tuple[str, ...]:
    """Return the setting `share` with absolute paths. Raises ConfigError for an invalid or reserved path."""
    return tuple(_text(folder_paths.parse(text)) for text in share)


def select(share: Sequence[str], b2d_home: Path) -> Selection:
    """Return the folders as they exist now; a named folder is shared even if it does not exist.

    Raises ConfigError.
    """
    left_out: list[str] = []
    chosen = _expand(share, b2d_home, left_out)
    for text, reason in share_overlaps.refusals(chosen).items():
        chosen.remove(text)
        left_out.append(f"{text} {NOT_SHARED}: {reason}")
    if rest := chosen[MAX_FOLDERS:]:
        left_out.append(
            f"{len(rest)} folders are not shared, since a machine has at most {MAX_FOLDERS}: {', '.join(rest)}"
        )
    return Selection(tuple(chosen[:MAX_FOLDERS]), tuple(left_out))


def _expand(share: Sequence[str], b2d_home: Path, left_out: list[str]) -> list[str]:
    """Return the named folders and the content of those with /*, once each; refused ones go to `left_out`."""
    listed: list[str] = []
    named: list[str] = []
    own = _own_folders(b2d_home)
    for text in _named(share):
        folder = folder_paths.parse(text)
        if reason := _refusal(folder.host, own):
            left_out.append(f"{folder.host} {NOT_SHARED}: {reason}")
        elif folder.host.endswith(EACH):
            for path in _subfolders(Path(folder.host).parent):
                if reason := _refusal(path, own) or _program_refusal(path):
                    left_out.append(f"{path} {NOT_SHARED}: {reason}")
                elif parsed := _parsed(path, folder.read_only):
                    listed.append(parsed)
        else:
            named.append(_text(folder))
    return _merge(listed, named)


def _merge(listed: Sequence[str], named: Sequence[str]) -> list[str]:
    """Merge the folders: as named, where it is in PATH/* too; else read-only wins."""
    modes: dict[str, bool] = {}
    for texts in (listed, named):
        hosts = [folder_paths.parse(text).host for text in texts]
        modes |= {host: host + folder_paths.READ_ONLY in texts for host in hosts}
    return [host + (folder_paths.READ_ONLY if read_only else "") for host, read_only in modes.items()]


def refusal(path: str, b2d_home: Path) -> str:
    """Return why a folder is never shared, "" where it may be; links are followed, as sharing does."""
    return _refusal(path, _own_folders(b2d_home))


def refusal_inside(path: str, b2d_home: Path) -> str:
    """Return the refusal for a saved machine: an older b2d may have shared a folder above b2d's own."""
    return _refusal_inside(path, _own_folders(b2d_home))


def _refusal(path: str, own: Sequence[Path]) -> str:
    if reason := _refusal_inside(path, own):
        return reason
    # the first is the home, which may not exist yet
    existing = [folder for number, folder in enumerate(own) if not number or os.path.lexists(folder)]
    inside = [] if path.endswith(EACH) else [folder for folder in existing if is_within(folder, path)]
    return f"it contains {inside[0]}, where b2d stores its keys" if inside else ""


def _refusal_inside(path: str, own: Sequence[Path]) -> str:
    above = [folder for folder in own if is_within(path.removesuffix(EACH), folder)]
    return f"it is inside {above[0]}, where b2d stores its keys" if above else ""


def _own_folders(b2d_home: Path) -> tuple[Path, ...]:
    """Return the folders with b2d's files: its homes, and the targets of links in them."""
    homes = b2d_home, Path(os.path.expanduser(DEFAULT_HOME))  # noqa: PTH111  pathlib's raises where there is no home
    return (*homes, *(link for home in homes for link in _links(home, OWN_DEPTH)))


def _links(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the links in a folder, down to a depth."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # missing, or not readable
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        if depth > 1 and entry.is_dir():
            yield from _links(Path(entry.path), depth - 1)


def _program_refusal(path: str) -> str:
    """Return why a folder is shared only by name: write access to programs gives the user's rights."""
    if inside := [program for program in _programs() if is_within(program, path)]:
        return f"b2d itself is installed there ({inside[0]}); {BY_NAME}"
    on_path = [folder for folder in _command_folders(os.environ) if is_within(folder, path)]
    return f"it contains programs, since {on_path[0]} is on PATH; {BY_NAME}" if on_path else ""


def _programs() -> list[str]:
    """Return the folders of b2d's code and its Python."""
    return list(dict.fromkeys([str(Path(__file__).resolve().parent.parent), sys.prefix, sys.base_prefix]))


def _command_folders(environ: Mapping[str, str]) -> list[str]:
    """Return the folders of PATH without those of a project.

    A project's are in its virtual environment, or in a hidden folder or node_modules.
    """
    environment = environ.get("VIRTUAL_ENV", "")
    folders_of_path = [folder for folder in environ.get("PATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    return [
        folder
        for folder in folders_of_path
        if not (environment and is_within(folder, environment))
        and not any(PROJECT.match(part) for part in Path(folder).parts)
    ]


def check(share: Sequence[str], b2d_home: Path) -> None:
    """Raise ConfigError for a named folder that is never shared."""
    for text in _named(share):
        host = folder_paths.parse(text).host
        if reason := refusal(host, b2d_home):
            hint = 'share = ["~/*"] for the visible folders in your home, or ["~/src"] for one of them'
            raise ConfigError(f"share: {host} cannot be shared: {reason}", hint=hint)
    for text, reason in share_overlaps.refusals(_expand(share, b2d_home, [])).items():
        raise ConfigError(
            f"share: {text} cannot be shared: {reason}", hint="name folders that do not contain each other"
        )


def warning(share: Sequence[str]) -> str:
    """Return a warning of secrets, start-up files or b2d in folders that are shared whole, "" for none."""
    named = [folder_paths.parse(text).host for text in _named(share)]
    whole = [Path(host) for host in named if not host.endswith(EACH)]
    sensitive = [str(folder / name) for folder in whole for name in SECRET if os.path.lexists(folder / name)]
    sensitive += [program for program in _programs() if any(is_within(program, folder) for folder in whole)]
    return (
        f"root in the machine can read and change {', '.join(sensitive)}, because of the setting share"
        if sensitive
        else ""
    )


def from_older_share(shared: Sequence[str]) -> tuple[str, ...]:
    """Return the setting for a machine of an older b2d, which shared the whole home by default."""
    return tuple(
        _text(folder, EACH) if is_home(folder.host) else _text(folder) for folder in map(folder_paths.parse, shared)
    )


def is_home(path: str) -> bool:
    """Return whether the path is the user's whole home, or a folder above it."""
    return is_within(os.path.expanduser("~"), path)  # noqa: PTH111  pathlib's raises where there is none


def _named(share: Sequence[str]) -> list[str]:
    return [text for text in share if text != NOTHING]


def _subfolders(folder: Path) -> Iterator[str]:
    """Yield the visible folders in it by name, without links and personal ones."""
    real = folder.resolve()
    personal = (PERSONAL_WINDOWS if os.name == "nt" else PERSONAL) | MEDIA | _media_names(real)
    if real == real.parent:
        return  # the root folder, the home of some system users, contains no projects
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


def _media_names(home: Path) -> set[str]:
    """Return the media folders' names in the user's language, from the desktop's user-dirs.dirs."""
    return {name.casefold() for name in MEDIA_LINE.findall(read_text_tail(home / ".config" / "user-dirs.dirs"))}


def _parsed(path: str, read_only: bool) -> str:
    """Return the path in the form of the setting, "" where it is not allowed, such as one of the guest's own."""
    try:
        return _text(folder_paths.parse(path + (folder_paths.READ_ONLY if read_only else "")))
    except ConfigError:
        return ""


def _text(folder: folder_paths.Folder, suffix: str = "") -> str:
    return folder.host + suffix + (folder_paths.READ_ONLY if folder.read_only else "")
