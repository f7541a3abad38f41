"""The recipe of the image: iso/image.toml and the files beside it, as plain values."""

import tomllib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from b2d.errors import B2dError, ConfigError

ARCHITECTURES = ("amd64",)


@dataclass(frozen=True, slots=True)
class Archive:
    """A part of Debian's archive."""

    name: str
    path: str  # below the base, where InRelease lies
    base: str  # "debian" or "debian-security", as the mirrors name them
    required: bool  # False: --allow-expired builds without it where it cannot be downloaded


@dataclass(frozen=True, slots=True)
class FileRules:
    """Changes to the files after all packages are unpacked; paths are patterns of fnmatch."""

    remove: tuple[str, ...]
    folders: dict[str, int]  # mode
    links: dict[str, str]
    modes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Stage1Rules:
    """The content of the initramfs."""

    applets: tuple[str, ...]
    folders: tuple[str, ...]
    modules: dict[str, tuple[str, ...]]  # by group, in the order of loading

    @property
    def all_modules(self) -> tuple[str, ...]:
        """The modules of all groups."""
        return tuple(chain(*self.modules.values()))


@dataclass(frozen=True, slots=True)
class Recipe:
    """The folder iso/."""

    folder: Path
    component: str
    archives: tuple[Archive, ...]
    keys: tuple[Path, ...]
    mirrors: tuple[str, ...]
    kernel_package: str
    kernel_arguments: str
    root_packages: tuple[str, ...]
    medium_packages: tuple[str, ...]
    files: FileRules
    busybox: str
    applets: dict[str, tuple[str, ...]]  # folder: names
    stage1: Stage1Rules
    modules: tuple[str, ...]

    @property
    def suite(self) -> str:
        """The codename of the main suite; updates and security have their own."""
        return self.archives[0].path.rpartition("/")[2]

    @property
    def overlay(self) -> Path:
        """Files that are added over those of the packages, at the path that they have in the image."""
        return self.folder / "rootfs"

    @property
    def stage1_init(self) -> Path:
        """The script that the initramfs runs as init."""
        return self.folder / "stage1" / "init"


def find() -> Path:
    """Return the folder iso/ of the installed package, or of a checkout. Raises B2dError."""
    package = Path(__file__).resolve().parents[2]  # b2d
    for folder in (package / "iso", package.parent / "iso"):
        if (folder / "image.toml").is_file():
            return folder
    raise B2dError(
        "the recipe iso/image.toml is missing from this installation",
        hint="in a checkout of b2d: pip install --force-reinstall .",
    )


def read(folder: Path) -> Recipe:
    """Read the recipe. Raises ConfigError naming what is invalid in it."""
    path = folder / "image.toml"
    try:
        return _recipe(folder, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is invalid: {error!r}") from error


def _recipe(folder: Path, data: dict[str, Any]) -> Recipe:
    debian, files, stage1 = data["debian"], data["files"], data["stage1"]
    return Recipe(
        folder=folder,
        component=debian["component"],
        archives=tuple(Archive(**archive) for archive in debian["archives"]),
        keys=tuple(folder / "keys" / name for name in debian["keys"]),
        mirrors=tuple(debian["mirrors"]),
        kernel_package=data["kernel"]["package"],
        kernel_arguments=" ".join(data["kernel"]["arguments"]),
        root_packages=tuple(data["packages"]["root"]),
        medium_packages=tuple(data["packages"]["medium"]),
        files=FileRules(
            remove=tuple(files["remove"]),
            folders={path: int(mode, 8) for path, mode in files["folders"].items()},
            links=dict(files["links"]),
            modes={path: int(mode, 8) for path, mode in files["modes"].items()},
        ),
        busybox=data["busybox"]["program"],
        applets={"usr/sbin": tuple(data["busybox"]["sbin"]), "usr/bin": tuple(data["busybox"]["bin"])},
        stage1=Stage1Rules(
            tuple(stage1["applets"]),
            tuple(stage1["folders"]),
            {group: tuple(names) for group, names in stage1["modules"].items()},
        ),
        modules=tuple(data["modules"]["keep"]),
    )
