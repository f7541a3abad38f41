"""Machines of boot2docker, docker-machine and VirtualBox that can be imported, by their files."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from b2d.errors import B2dError, ConfigError, ImageError, InvalidStateError
from b2d.formats import json_text, vbox_settings
from b2d.formats.iso9660 import Volume, read_volume
from b2d.host.files import read_bounded
from b2d.image.version_label import supports_aufs
from b2d.models import OFF_STATES, MachineState

SETTINGS = ".vbox"
DISKS = ("disk.vmdk", "disk.vdi", "disk.qcow2")  # in a machine folder of docker-machine


@dataclass(frozen=True, slots=True)
class ImportCandidate:
    """A machine that can be imported; unknown numbers are 0."""

    name: str
    disk: Path
    memory_mib: int = 0
    cpus: int = 0
    state: MachineState = MachineState.STOPPED
    settings: Path | None = None  # of VirtualBox
    has_snapshots: bool = False  # only VirtualBox can merge the layers of its disk
    parents: tuple[Path, ...] = ()  # files below a layered disk, the nearest first
    typed: bool = False  # the user typed the path of the disk's file
    volume: Volume | None = None  # of the ISO that it boots

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the disk."""
        return (self.disk, *self.parents)

    @property
    def is_boot2docker(self) -> bool:
        """Whether its ISO or its location shows that it is of boot2docker."""
        return self.settings is None or (self.volume is not None and self.volume.is_boot2docker)

    @property
    def had_aufs(self) -> bool:
        """Whether its ISO is of a version whose Docker stored images in AUFS."""
        return self.volume is not None and self.volume.is_boot2docker and supports_aufs(self.volume.version)


def from_vbox_settings(path: Path, state: MachineState | None = None) -> ImportCandidate:
    """Return the machine of a settings file; `state` is VirtualBox's, if known. Raises B2dError."""
    settings = vbox_settings.read(path)
    if len(settings.disks) != 1:
        number = len(settings.disks) or "no"
        raise B2dError(
            f"{settings.name} has {number} disks in {path}, but needs one", hint="b2d import FILE, with its data disk"
        )
    return ImportCandidate(
        name=settings.name,
        disk=settings.disks[0],
        memory_mib=settings.memory_mib,
        cpus=settings.cpus,
        state=state or (MachineState.SAVED if settings.saved else MachineState.STOPPED),
        settings=path,
        has_snapshots=settings.has_snapshots,
        parents=settings.parents,
        volume=_volume(settings.isos),
    )


def from_folder(path: Path) -> ImportCandidate:
    """Return the machine in a folder of docker-machine or VirtualBox. Raises B2dError."""
    for settings in (path / path.name / f"{path.name}{SETTINGS}", *sorted(path.glob(f"*{SETTINGS}"))):
        if settings.is_file():
            return from_vbox_settings(settings)
    disk = next((path / name for name in DISKS if (path / name).is_file()), None)
    if disk is None:
        raise B2dError(f"{path} contains no machine's disk", hint="b2d import FILE, with its data disk")
    driver = _docker_machine(path / "config.json")
    memory, cpus = (driver.get(key) for key in ("Memory", "CPU"))
    return ImportCandidate(
        name=path.name,
        disk=disk,
        memory_mib=memory if type(memory) is int and 0 < memory <= vbox_settings.MEMORY_LIMIT else 0,
        cpus=cpus if type(cpus) is int and 0 < cpus <= vbox_settings.CPU_LIMIT else 0,
        volume=_volume([path / "boot2docker.iso"]),
    )


def from_file(path: Path, known: Iterable[ImportCandidate]) -> ImportCandidate:
    """Return the machine at a path: of a folder, a settings file, or a disk, possibly of a known machine."""
    path = path.absolute()
    if path.is_dir():
        return from_folder(path)
    for candidate in known:
        if any(file is not None and _same(file, path) for file in (candidate.disk, candidate.settings)):
            if candidate.disk.is_symlink() and not candidate.has_snapshots and _same(candidate.disk, path):
                return replace(candidate, disk=Path(os.path.realpath(path)), typed=True)
            return candidate
    if path.suffix == SETTINGS:
        return from_vbox_settings(path)
    volume = _volume([path.with_name("boot2docker.iso")])
    return ImportCandidate(name=path.stem, disk=Path(os.path.realpath(path)), volume=volume, typed=True)


def docker_machine_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Return the folders of docker-machine's machines."""
    home = environ.get("HOME") or environ.get("USERPROFILE") or ""
    store = environ.get("MACHINE_STORAGE_PATH") or (home and f"{home}/.docker/machine")
    return _folders(Path(store) / "machines") if store else iter(())


def virtualbox_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Return the folders of VirtualBox's machines in their default location."""
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return _folders(Path(home) / "VirtualBox VMs") if home else iter(())


def choose(word: str, known: list[ImportCandidate]) -> ImportCandidate:
    """Return the machine with that name or path. Raises ConfigError with a suggestion where neither exists."""
    named = [candidate for candidate in known if candidate.name == word]
    if len(named) > 1:
        paths = ", ".join(str(candidate.settings or candidate.disk) for candidate in named)
        raise ConfigError(f"several machines are called {word}: {paths}", hint="b2d import FILE, with one of these")
    if named:
        return named[0]
    path = Path(word).expanduser()
    if path.exists():
        return from_file(path, known)
    import difflib

    matches = difflib.get_close_matches(word, [candidate.name for candidate in known], n=1)
    suggestion = f": did you mean {matches[0]!r}?" if matches else ""
    raise ConfigError(f"there is no machine or file {word!r} to import{suggestion}", hint="b2d import")


def require_off(original: ImportCandidate) -> None:
    """Raise InvalidStateError unless the machine is off: its disk may change, or its memory be lost."""
    name, quoted = original.name, shlex.quote(original.name)
    if original.state == MachineState.SAVED:
        message = f"{name} is saved, and its memory would be lost"
        raise InvalidStateError(message, hint=f"VBoxManage startvm {quoted} --type headless, then power it off")
    if original.state not in OFF_STATES:
        hint = f"VBoxManage controlvm {quoted} acpipowerbutton"
        raise InvalidStateError(f"{name} is {original.state}, but must be off to be imported", hint=hint)


def _folders(store: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in store.iterdir() if path.is_dir())
    except OSError:
        return


def _docker_machine(path: Path) -> dict[str, object]:
    """Return docker-machine's record of the hardware; empty where it cannot be read."""
    try:
        driver = json_text.parse(read_bounded(path))["Driver"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return driver if isinstance(driver, dict) else {}


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _volume(isos: Iterable[Path]) -> Volume | None:
    for iso in isos:
        try:
            return read_volume(iso)
        except (OSError, ImageError):
            continue
    return None
