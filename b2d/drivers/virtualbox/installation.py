"""The search for vboxapi, VirtualBox's own Python binding, which comes with it and is in no environment."""

import atexit
import contextlib
import functools
import importlib.util
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from b2d.errors import HypervisorError

NAME = "vboxapi"
INIT = "__init__.py"
# below VirtualBox's own folder: today's, before 7.1, the SDK of 5.x, and Windows
IN_SDK = (
    "sdk/installer/python/vboxapi/src",
    "sdk/installer/python/vboxapi",
    "sdk/installer",
    "sdk/install",
)
# of a distribution's package, or of Oracle's installer with the system's Python
OF_PYTHONS = {
    "linux": (
        "usr/lib/python3/dist-packages",  # Debian's, by name: a glob over /usr/lib takes milliseconds
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
SERVICE = {"win32": "VBoxSVC.exe"}  # the API's server; elsewhere VBoxSVC
DRIVER = {"linux": "dev/vboxdrv", "darwin": "", "win32": ""}  # "": it cannot be checked
TO_INSTALL = {
    "linux": "apt-get install virtualbox, or what virtualbox.org offers for this system",
    "darwin": "brew install --cask virtualbox",
    "win32": "winget install Oracle.VirtualBox",
}


class SearchPaths(NamedTuple):
    """The places to search on a host."""

    platform: str = sys.platform
    root: Path = Path("/")
    environment: Mapping[str, str] = os.environ

    def vboxapi(self, setting: str = "") -> Path:
        """Return the folder of the package. Raises HypervisorError, with what to install, when there is none."""
        if setting:
            given = Path(setting).expanduser()
            folder = next((candidate for candidate in (given, given / NAME) if (candidate / INIT).is_file()), None)
            if folder is None:
                raise HypervisorError(f"the folder {setting} does not contain {NAME}", hint="b2d config unset vboxapi")
            return folder
        folder = next((candidate for candidate in self._candidates() if (candidate / INIT).is_file()), None)
        if folder is not None:
            return folder
        if self.installed():
            raise HypervisorError(
                f"VirtualBox is installed, but not its Python binding ({NAME})",
                hint=f"b2d config set vboxapi=FOLDER, or {self.to_install}",
            )
        raise HypervisorError("VirtualBox is not installed", hint=self.to_install)

    def installed(self) -> bool:
        """Tell whether VirtualBox's service is installed."""
        service = SERVICE.get(self.platform, "VBoxSVC")
        return any((folder / service).is_file() for folder in self._programs())

    def can_start(self) -> bool:
        """Tell whether a machine could start: the service is installed, and its driver is loaded."""
        driver = DRIVER.get(self.platform)
        return driver is not None and self.installed() and (not driver or (self.root / driver).exists())

    @property
    def to_install(self) -> str:
        """The command that installs VirtualBox."""
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
    """Return the manager of vboxapi, one for this process, which ends before Python does.

    After the end of one manager no other works.
    """
    started = load(folder).VirtualBoxManager(None, None)
    atexit.register(started.deinit)
    return started


def load(folder: Path) -> Any:
    """Import vboxapi from its own files: no other module of its folder becomes importable."""
    if NAME in sys.modules:
        return sys.modules[NAME]
    init = folder / INIT
    spec = importlib.util.spec_from_file_location(NAME, init, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{init} is not a package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[NAME]
        raise
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard all output of this process and its children: the service starts with these files open."""
    with open(os.devnull, "wb") as null:  # noqa: PTH123  dup2 needs a descriptor
        copies = {stream: os.dup(stream) for stream in (1, 2)}
        try:
            for stream in copies:
                os.dup2(null.fileno(), stream)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            for stream, copy in copies.items():
                os.dup2(copy, stream)
                os.close(copy)


@contextlib.contextmanager
def in_stable_folder() -> Iterator[None]:
    """Change to the root folder for the block.

    The service keeps the folder in which it starts in use, and would prevent the removal of a USB stick.
    """
    try:
        current = Path.cwd()
    except OSError:  # it was deleted
        current = Path(Path.home().anchor)
    os.chdir(Path.home().anchor)
    try:
        yield
    finally:
        os.chdir(current)
