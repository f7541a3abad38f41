"""What VirtualBox's own settings file says of a machine: read without VirtualBox, and never written."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from b2d.errors import B2dError


@dataclass(frozen=True, slots=True)
class BoxFile:
    """A machine as its file has it. Memory is 0 where the file does not say it."""

    name: str
    memory_mib: int
    cpus: int
    disks: tuple[Path, ...]
    isos: tuple[Path, ...]
    saved: bool
    layered: bool  # a disk is several files, of which each holds what is otherwise than in the one before


def read(path: Path) -> BoxFile:
    """The machine whose settings file that is. Raises B2dError."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise B2dError(f"{path} cannot be read: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise B2dError(f"{path} is no settings file of VirtualBox: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    machine = root.find("Machine")
    if machine is None or not machine.get("name"):
        raise B2dError(f"{path} is no settings file of a VirtualBox machine")
    try:
        return _machine(machine, path.parent)
    except ValueError as error:
        raise B2dError(f"{path} cannot be understood: {error}") from error


def _machine(machine: Element, folder: Path) -> BoxFile:
    layers = machine.findall("MediaRegistry/HardDisks//HardDisk/HardDisk")
    attached = _attached(machine, "HardDisk")
    return BoxFile(
        name=machine.get("name", ""),
        memory_mib=int(_said(machine, "Hardware/Memory", "RAMSize") or 0),
        cpus=int(_said(machine, "Hardware/CPU", "count") or 1),
        disks=_places(machine, "MediaRegistry/HardDisks//HardDisk", attached, folder),
        isos=_places(machine, "MediaRegistry/DVDImages/Image", _attached(machine, "DVD"), folder),
        saved=bool(machine.get("stateFile")),
        layered=any(layer.get("uuid") in attached for layer in layers),
    )


def _said(machine: Element, where: str, name: str) -> str:
    element = machine.find(where)
    return element.get(name, "") if element is not None else ""


def _attached(machine: Element, kind: str) -> list[str]:
    """The media in its drives now, not in those of its snapshots. Since 7.0 the controllers are hardware."""
    controllers = [
        *machine.findall("StorageControllers/StorageController"),
        *machine.findall("Hardware/StorageControllers/StorageController"),
    ]
    devices = [device for one in controllers for device in one.findall("AttachedDevice") if device.get("type") == kind]
    return [image.get("uuid", "") for device in devices for image in device.findall("Image")]


def _places(machine: Element, where: str, wanted: list[str], folder: Path) -> tuple[Path, ...]:
    """The files of the media; those that only VirtualBox's own list knows are left out."""
    known = {medium.get("uuid"): medium.get("location", "") for medium in machine.findall(where)}
    return tuple(folder / known[uuid] for uuid in wanted if uuid in known)
