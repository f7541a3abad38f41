"""What VirtualBox's own settings file says of a machine: read without VirtualBox, and never written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from b2d.errors import B2dError
from b2d.formats import numbers
from b2d.host.files import read_bounded

SIZE_LIMIT = 8 << 20  # bytes; one with many snapshots has some hundred kilobytes
DEPTH_LIMIT = 200  # elements in elements; a snapshot adds three or four
MEMORY_LIMIT, CPU_LIMIT = 1 << 24, 1 << 10  # MiB, and how many; more than VirtualBox gives


@dataclass(frozen=True, slots=True)
class VBoxSettings:
    """A machine as its file has it. Memory is 0 where the file does not say it."""

    name: str
    memory_mib: int
    cpus: int
    disks: tuple[Path, ...]
    isos: tuple[Path, ...]
    saved: bool
    has_snapshots: bool  # a disk is several files, of which each holds what is otherwise than in the one before
    parents: tuple[Path, ...] = ()  # of a layered first disk: the file that it is based on, that one's, and so on


class _Builder(ElementTree.TreeBuilder):
    """Builds no tree of a document that defines entities, or is nested too deeply."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, *_: object) -> None:
        raise ValueError("it has a document type")

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise ValueError("it is nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def read(path: Path) -> VBoxSettings:
    """The machine whose settings file that is. Raises B2dError."""
    try:
        root = ElementTree.fromstring(read_bounded(path, SIZE_LIMIT), ElementTree.XMLParser(target=_Builder()))
    except OSError as error:
        raise B2dError(f"{path} cannot be read: {error.strerror}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last: an encoding that nobody knows
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


def _machine(machine: Element, folder: Path) -> VBoxSettings:
    layers = machine.findall("MediaRegistry/HardDisks//HardDisk/HardDisk")
    attached = _attached(machine, "HardDisk")
    return VBoxSettings(
        name=machine.get("name", ""),
        memory_mib=numbers.parse(_said(machine, "Hardware/Memory", "RAMSize") or "0", MEMORY_LIMIT),
        cpus=numbers.parse(_said(machine, "Hardware/CPU", "count") or "1", CPU_LIMIT),
        disks=_places(machine, "MediaRegistry/HardDisks//HardDisk", attached, folder),
        isos=_places(machine, "MediaRegistry/DVDImages/Image", _attached(machine, "DVD"), folder),
        saved=bool(machine.get("stateFile")),
        has_snapshots=not {layer.get("uuid") for layer in layers}.isdisjoint(attached),
        parents=tuple(folder / one for one in _parents(machine, attached)),
    )


def _parents(machine: Element, attached: list[str]) -> Iterator[str]:
    """Yield the places of those in which the element of the first attached disk lies, the nearest first."""
    disks = machine.findall("MediaRegistry/HardDisks//HardDisk")
    outer = {child: one for one in disks for child in one.findall("HardDisk")}
    inner = next((one for one in disks if attached and one.get("uuid") == attached[0]), None)
    while inner is not None and (inner := outer.get(inner)) is not None:
        yield inner.get("location", "")


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
