"""Machines of boot2docker, docker-machine and VirtualBox that could be imported, as their files tell of them."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from b2d.errors import B2dError, ConfigError, DownloadError, InvalidStateError
from b2d.formats import json_text, vbox_settings
from b2d.formats.iso9660 import Volume, read_volume
from b2d.host.files import read_bounded
from b2d.image.version_label import supports_aufs
from b2d.models import OFF_STATES, MachineState

SETTINGS = ".vbox"
DISKS = ("disk.vmdk", "disk.vdi", "disk.qcow2")  # in a folder of docker-machine's


@dataclass(frozen=True, slots=True)
class ImportCandidate:
    """What could be imported. Numbers that nobody knows are 0."""

    name: str
    disk: Path
    memory_mib: int = 0
    cpus: int = 0
    state: MachineState = MachineState.STOPPED
    settings: Path | None = None  # of VirtualBox
    has_snapshots: bool = False  # there are snapshots: only VirtualBox can put its disk together
    parents: tuple[Path, ...] = ()  # of a layered disk: the file that it is based on, that one's, and so on
    typed: bool = False  # a person named the disk's file, not another file or folder
    volume: Volume | None = None  # of the ISO that it boots

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read of its disk."""
        return (self.disk, *self.parents)

    @property
    def is_boot2docker(self) -> bool:
        """True where its ISO, or its place, tells so."""
        return self.settings is None or (self.volume is not None and self.volume.is_boot2docker)

    @property
    def had_aufs(self) -> bool:
        """True where its ISO is of a time in which Docker kept its images on AUFS."""
        return self.volume is not None and self.volume.is_boot2docker and supports_aufs(self.volume.version)


def from_vbox_settings(path: Path, state: MachineState | None = None) -> ImportCandidate:
    """The machine of a settings file; `state` is what VirtualBox says, where it is there. Raises B2dError."""
    found = vbox_settings.read(path)
    if len(found.disks) != 1:
        number = len(found.disks) or "no"
        raise B2dError(f"{found.name} has {number} disks that {path} tells of", hint="b2d import FILE, its data disk")
    return ImportCandidate(
        name=found.name,
        disk=found.disks[0],
        memory_mib=found.memory_mib,
        cpus=found.cpus,
        state=state or (MachineState.SAVED if found.saved else MachineState.STOPPED),
        settings=path,
        has_snapshots=found.has_snapshots,
        parents=found.parents,
        volume=_volume(found.isos),
    )


def from_folder(path: Path) -> ImportCandidate:
    """The machine of docker-machine's, or of VirtualBox's, in that folder. Raises B2dError."""
    for settings in (path / path.name / f"{path.name}{SETTINGS}", *sorted(path.glob(f"*{SETTINGS}"))):
        if settings.is_file():
            return from_vbox_settings(settings)
    disk = next((path / name for name in DISKS if (path / name).is_file()), None)
    if disk is None:
        raise B2dError(f"there is no machine's disk in {path}", hint="b2d import FILE, its data disk")
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
    """What is at that path: a machine's folder or settings, or a disk, which may be a known machine's."""
    path = path.absolute()
    if path.is_dir():
        return from_folder(path)
    for one in known:
        if any(place is not None and _same(place, path) for place in (one.disk, one.settings)):
            if one.disk.is_symlink() and not one.has_snapshots and _same(one.disk, path):
                return replace(one, disk=Path(os.path.realpath(path)), typed=True)
            return one
    if path.suffix == SETTINGS:
        return from_vbox_settings(path)
    volume = _volume([path.with_name("boot2docker.iso")])
    return ImportCandidate(name=path.stem, disk=Path(os.path.realpath(path)), volume=volume, typed=True)


def docker_machine_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Its machines' folders."""
    home = environ.get("HOME") or environ.get("USERPROFILE") or ""
    store = environ.get("MACHINE_STORAGE_PATH") or (home and f"{home}/.docker/machine")
    return _folders(Path(store) / "machines") if store else iter(())


def virtualbox_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Its machines' folders, where it keeps them unless it is told otherwise."""
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return _folders(Path(home) / "VirtualBox VMs") if home else iter(())


def choose(word: str, known: list[ImportCandidate]) -> ImportCandidate:
    """The machine of that name, or what is at that path. Raises ConfigError, with what was meant, where neither is."""
    named = [one for one in known if one.name == word]
    if len(named) > 1:
        places = ", ".join(str(one.settings or one.disk) for one in named)
        raise ConfigError(f"there are several {word}: {places}", hint="b2d import FILE, one of these")
    if named:
        return named[0]
    path = Path(word).expanduser()
    if path.exists():
        return from_file(path, known)
    import difflib

    near = difflib.get_close_matches(word, [one.name for one in known], n=1)
    meant = f": did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"there is no machine and no file {word!r} to import{meant}", hint="b2d import")


def require_off(original: ImportCandidate) -> None:
    """Raise InvalidStateError for a machine whose disk may change, or whose memory would be lost."""
    name, quoted = original.name, shlex.quote(original.name)
    if original.state == MachineState.SAVED:
        said = f"{name} is saved, and what it had in memory would be lost"
        raise InvalidStateError(said, hint=f"VBoxManage startvm {quoted} --type headless, then power it off")
    if original.state not in OFF_STATES:
        hint = f"VBoxManage controlvm {quoted} acpipowerbutton"
        raise InvalidStateError(f"{name} is {original.state}, and is imported only while it is off", hint=hint)


def _folders(store: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in store.iterdir() if path.is_dir())
    except OSError:
        return


def _docker_machine(path: Path) -> dict[str, object]:
    """What docker-machine kept of a machine's hardware; nothing where that cannot be read."""
    try:
        found = json_text.parse(read_bounded(path))["Driver"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _volume(isos: Iterable[Path]) -> Volume | None:
    for iso in isos:
        try:
            return read_volume(iso)
        except (OSError, DownloadError):
            continue
    return None
