"""Read a machine from VirtualBox's settings file, without VirtualBox; it is never written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from b2d.errors import B2dError
from b2d.formats import numbers
from b2d.host.files import read_bounded

SIZE_LIMIT = 8 << 20  # bytes; a file with many snapshots has some hundred KiB
DEPTH_LIMIT = 200  # nested elements; a snapshot adds three or four
MEMORY_LIMIT, CPU_LIMIT = 1 << 24, 1 << 10  # MiB and number; above VirtualBox's own limits


@dataclass(frozen=True, slots=True)
class VBoxSettings:
    """A machine in VirtualBox's settings; memory is 0 where the file has none."""

    name: str
    memory_mib: int
    cpus: int
    disks: tuple[Path, ...]
    isos: tuple[Path, ...]
    saved: bool
    has_snapshots: bool  # a disk is several files, each with the differences from the previous
    parents: tuple[Path, ...] = ()  # files below a layered first disk, the nearest first


class _Builder(ElementTree.TreeBuilder):
    """A tree builder that refuses documents with entities or deep nesting."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, *_: object) -> None:
        """Raise ValueError."""
        raise ValueError("it has a document type")

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        """Open an element. Raises ValueError for deep nesting."""
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise ValueError("it is nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        """Close an element."""
        self._depth -= 1
        return super().end(tag)


def read(path: Path) -> VBoxSettings:
    """Return the machine of a settings file. Raises B2dError."""
    try:
        root = ElementTree.fromstring(read_bounded(path, SIZE_LIMIT), ElementTree.XMLParser(target=_Builder()))
    except OSError as error:
        raise B2dError(f"{path} cannot be read: {error.strerror}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last: an unknown encoding
        raise B2dError(f"{path} is not a settings file of VirtualBox: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    machine = root.find("Machine")
    if machine is None or not machine.get("name"):
        raise B2dError(f"{path} is not a settings file of a VirtualBox machine")
    try:
        return _machine(machine, path.parent)
    except ValueError as error:
        raise B2dError(f"{path} has an invalid value: {error}") from error


def _machine(machine: Element, folder: Path) -> VBoxSettings:
    layers = machine.findall("MediaRegistry/HardDisks//HardDisk/HardDisk")
    attached = _attached(machine, "HardDisk")
    return VBoxSettings(
        name=machine.get("name", ""),
        memory_mib=numbers.parse(_attribute(machine, "Hardware/Memory", "RAMSize") or "0", MEMORY_LIMIT),
        cpus=numbers.parse(_attribute(machine, "Hardware/CPU", "count") or "1", CPU_LIMIT),
        disks=_locations(machine, "MediaRegistry/HardDisks//HardDisk", attached, folder),
        isos=_locations(machine, "MediaRegistry/DVDImages/Image", _attached(machine, "DVD"), folder),
        saved=bool(machine.get("stateFile")),
        has_snapshots=not {layer.get("uuid") for layer in layers}.isdisjoint(attached),
        parents=tuple(folder / location for location in _parents(machine, attached)),
    )


def _parents(machine: Element, attached: list[str]) -> Iterator[str]:
    """Yield the locations of the disks that enclose the first attached one, the nearest first."""
    disks = machine.findall("MediaRegistry/HardDisks//HardDisk")
    outer = {child: disk for disk in disks for child in disk.findall("HardDisk")}
    inner = next((disk for disk in disks if attached and disk.get("uuid") == attached[0]), None)
    while inner is not None and (inner := outer.get(inner)) is not None:
        yield inner.get("location", "")


def _attribute(machine: Element, path: str, name: str) -> str:
    element = machine.find(path)
    return element.get(name, "") if element is not None else ""


def _attached(machine: Element, kind: str) -> list[str]:
    """Return the media in the drives now, not in snapshots. Since 7.0 the controllers are in Hardware."""
    controllers = [
        *machine.findall("StorageControllers/StorageController"),
        *machine.findall("Hardware/StorageControllers/StorageController"),
    ]
    devices = [
        device
        for controller in controllers
        for device in controller.findall("AttachedDevice")
        if device.get("type") == kind
    ]
    return [image.get("uuid", "") for device in devices for image in device.findall("Image")]


def _locations(machine: Element, path: str, uuids: list[str], folder: Path) -> tuple[Path, ...]:
    """Return the files of the media, without those that only VirtualBox's global list has."""
    known = {medium.get("uuid"): medium.get("location", "") for medium in machine.findall(path)}
    return tuple(folder / known[uuid] for uuid in uuids if uuid in known)
