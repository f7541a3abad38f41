"""Find and load vboxapi, VirtualBox's own binding for Python: it comes with VirtualBox, and no environment has it."""

import atexit
import contextlib
import functools
import importlib.util
import io
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from b2d.errors import HypervisorError

NAME = "vboxapi"
INIT = "__init__.py"
# below VirtualBox's own folder: as it is today, before 7.1, in the SDK of 5.x, and on Windows
IN_SDK = (
    "sdk/installer/python/vboxapi/src",
    "sdk/installer/python/vboxapi",
    "sdk/installer",
    "sdk/install",
)
# where a distribution's package, or Oracle's installer with the system's Python, puts it
OF_PYTHONS = {
    "linux": (
        "usr/lib/python3/dist-packages",  # Debian's, by its name: looking through /usr/lib takes milliseconds
        "usr/lib/python3*/*-packages",
        "usr/lib64/python3*/*-packages",
        "usr/local/lib/python3*/*-packages",
    ),
    "darwin": ("Library/Python/3*/site-packages", "usr/local/lib/python3*/site-packages"),
}
PROGRAM_FOLDERS = {
    "linux": ("usr/lib/virtualbox", "usr/lib64/virtualbox", "opt/VirtualBox"),
    "darwin": ("Applications/VirtualBox.app/Contents/MacOS",),
}
SERVICE = {"win32": "VBoxSVC.exe"}  # what answers the API; elsewhere VBoxSVC
DRIVER = {"linux": "dev/vboxdrv", "darwin": "", "win32": ""}  # "": nothing that can be looked at
TO_INSTALL = {
    "linux": "apt-get install virtualbox, or what virtualbox.org offers for this system",
    "darwin": "brew install --cask virtualbox",
    "win32": "winget install Oracle.VirtualBox",
}


@dataclass(frozen=True, slots=True)
class SearchPaths:
    """Where to look on one host."""

    platform: str = sys.platform
    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def vboxapi(self, setting: str = "") -> Path:
        """The folder of the package. Raises HypervisorError, with what to install, when there is none."""
        if setting:
            given = Path(setting).expanduser()
            found = next((folder for folder in (given, given / NAME) if (folder / INIT).is_file()), None)
            if found is None:
                raise HypervisorError(f"there is no {NAME} in {setting}", hint="b2d config unset vboxapi")
            return found
        found = next((folder for folder in self._candidates() if (folder / INIT).is_file()), None)
        if found is not None:
            return found
        if self.installed():
            raise HypervisorError(
                f"VirtualBox is there, but not its binding for Python ({NAME})",
                hint=f"b2d config set vboxapi=FOLDER, if it is somewhere; else {self.to_install}",
            )
        raise HypervisorError("VirtualBox is not installed", hint=self.to_install)

    def installed(self) -> bool:
        """True when VirtualBox's service is there."""
        service = SERVICE.get(self.platform, "VBoxSVC")
        return any((folder / service).is_file() for folder in self._programs())

    def can_start(self) -> bool:
        """True when a machine could really start: the service is there, and its driver is in the kernel."""
        driver = DRIVER.get(self.platform)
        return driver is not None and self.installed() and (not driver or (self.root / driver).exists())

    @property
    def to_install(self) -> str:
        """What a person does to get VirtualBox."""
        return TO_INSTALL.get(self.platform, "see virtualbox.org")

    def _candidates(self) -> Iterator[Path]:
        for pattern in OF_PYTHONS.get(self.platform, ()):
            yield from sorted(self.root.glob(f"{pattern}/{NAME}"))
        for folder in self._programs():
            yield from (folder / PurePath(inside) / NAME for inside in IN_SDK)

    def _programs(self) -> Iterator[Path]:
        own = self.environment.get("VBOX_PROGRAM_PATH") or self.environment.get("VBOX_MSI_INSTALL_PATH")
        if own:
            yield Path(own)
        for folder in PROGRAM_FOLDERS.get(self.platform, ()):
            yield self.root / folder
        if self.platform == "win32":
            for name in ("ProgramW6432", "ProgramFiles"):
                if name in self.environment:
                    yield Path(self.environment[name]) / "Oracle" / "VirtualBox"


@functools.cache
def manager(folder: Path) -> Any:
    """vboxapi's manager, one for this process: after the end of one no other works. It ends before Python does."""
    made = load(folder).VirtualBoxManager(None, None)
    atexit.register(made.deinit)
    return made


def load(folder: Path) -> Any:
    """Import vboxapi from its own files: nothing else of the place where it lies becomes importable."""
    if NAME in sys.modules:
        return sys.modules[NAME]
    place = folder / INIT
    described = importlib.util.spec_from_file_location(NAME, place, submodule_search_locations=[str(folder)])
    if described is None or described.loader is None:
        raise ImportError(f"{place} is not a package")
    module = importlib.util.module_from_spec(described)
    sys.modules[NAME] = module
    try:
        described.loader.exec_module(module)
    except BaseException:
        del sys.modules[NAME]
        raise
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing that is printed meanwhile is seen, whoever prints it: the service starts with these files open."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a number is wanted
        kept = {stream: os.dup(stream) for stream in (1, 2)}
        try:
            for stream in kept:
                os.dup2(nowhere.fileno(), stream)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            for stream, copy in kept.items():
                os.dup2(copy, stream)
                os.close(copy)


@contextlib.contextmanager
def in_stable_folder() -> Iterator[None]:
    """The service keeps the folder in which it was started, and so would keep a stick from being taken out."""
    try:
        here = Path.cwd()
    except OSError:  # it is gone
        here = Path(Path.home().anchor)
    os.chdir(Path.home().anchor)
    try:
        yield
    finally:
        os.chdir(here)
