"""Read a machine's spec from machine.json, which may be damaged or foreign."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2d.errors import B2dError, ConfigError
from b2d.formats import json_text
from b2d.machine_names import command_for

if TYPE_CHECKING:
    from b2d.models import MachineSpec

SCHEMA = 1
NEWER_HINT = "use that version, or upgrade this one"
RANGES = {  # inclusive; wider than those of `b2d init`: an imported machine may be small
    "memory_mib": (1, 1 << 22),
    "cpus": (0, 4096),
    "disk_mib": (0, 1 << 31),
    "ssh_port": (1, 65535),
    "docker_port": (1, 65535),
    "engine_port": (0, 65535),
    "hardware": (1, 1000),
}
MAX_LENGTH = 4096  # characters of a string; a path is not longer
LOOPBACK = re.compile(r"127(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}", re.ASCII)
SHA256 = re.compile("[0-9a-f]{64}")
FORMS = {  # patterns of strings that are not empty
    "address": LOOPBACK,  # on any other the network would reach the machine
    "image": SHA256,  # part of a file name
    "previous": SHA256,
    "refused": SHA256,
}


def loopback(address: object) -> str:
    """Return a loopback address. Raises ValueError for anything else."""
    if not isinstance(address, str) or LOOPBACK.fullmatch(address) is None:
        raise ValueError("it is not a loopback address")
    return address


class CorruptSpecError(B2dError):
    """An unusable machine.json, which `up` repairs; `moved` is its spec where it is another folder's."""

    def __init__(self, message: str, name: str, moved: "MachineSpec | None" = None) -> None:
        """Create the error with its hint."""
        super().__init__(message, hint=command_for("up", name))
        self.moved = moved


def parse(path: Path, name: str, content: bytes) -> "MachineSpec":
    """Return the spec of the machine `name` in `content` of `path`. Raises CorruptSpecError and B2dError."""
    from b2d.models import HARDWARE, MachineSpec

    try:
        data = json_text.parse(content)
    except ValueError as error:
        raise CorruptSpecError(f"{path} is not JSON: {error}", name) from error
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise CorruptSpecError(f"{path} is not a machine's description", name)
    if data.pop("schema") > SCHEMA:
        raise B2dError(f"{path} was written by a newer b2d", hint=NEWER_HINT)
    for key in sorted(data.keys() - MachineSpec._fields):
        raise B2dError(f"{path}: {key[:MAX_LENGTH]!r} is unknown", hint=NEWER_HINT)
    for problem in _find_problems(data):
        raise CorruptSpecError(f"{path}: {problem}", name)
    data |= {key: tuple(value) for key, value in data.items() if isinstance(value, list)}  # JSON has no tuples
    spec = MachineSpec(**data)
    if spec.hardware > HARDWARE:
        raise B2dError(f"{path} was written by a newer b2d", hint=NEWER_HINT)
    if spec.name.casefold() == name.casefold() and spec.name != name:
        raise ConfigError(f"the machine is called {spec.name}, not {name}", hint=f"--vm {spec.name}")
    if spec.name != name:
        raise CorruptSpecError(
            f"{path} describes the machine {spec.name!r}: the folder was moved or copied", name, spec
        )
    return spec


def _find_problems(data: dict[str, Any]) -> Iterator[str]:
    from b2d.models import MachineSpec

    for key, kind in MachineSpec.__annotations__.items():
        if key not in data:
            if key not in MachineSpec._field_defaults:
                yield f"{key!r} is missing"
        elif not _has_type(data[key], kind) or not _is_valid(key, data[key]):
            yield f"{key!r} cannot be {repr(data[key])[:80]}"


def _has_type(value: object, kind: object) -> bool:
    """Return whether a JSON value fits a field of that type."""
    if isinstance(kind, type):
        return type(value) is kind
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_valid(key: str, value: Any) -> bool:
    if key in RANGES:
        return bool(RANGES[key][0] <= value <= RANGES[key][1])
    if key in FORMS and value:
        return FORMS[key].fullmatch(value) is not None
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return all(len(text) <= MAX_LENGTH and _is_encodable(text) for text in texts)


def _is_encodable(text: str) -> bool:
    """Return whether a path or a program's argument can contain the text."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
