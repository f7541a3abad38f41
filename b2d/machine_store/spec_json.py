"""A machine's spec as it is kept in machine.json: read from a file that may be damaged, or somebody else's work."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2d.errors import B2dError, ConfigError
from b2d.formats import json_text

if TYPE_CHECKING:
    from b2d.models import MachineSpec

SCHEMA = 1
NEWER_HINT = "use that version, or upgrade this one"
RANGES = {  # both ends included; wider than what `b2d init` takes: an imported machine may be small
    "memory_mib": (1, 1 << 22),
    "cpus": (0, 4096),
    "disk_mib": (0, 1 << 31),
    "ssh_port": (1, 65535),
    "docker_port": (1, 65535),
    "engine_port": (0, 65535),
    "hardware": (1, 1000),
}
MAX_LENGTH = 4096  # signs of a text; a path is no longer
LOOPBACK = re.compile(r"127(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}", re.ASCII)
SHA256 = re.compile("[0-9a-f]{64}")
FORMS = {  # what texts must be; an empty one says "none"
    "address": LOOPBACK,  # on any other the whole network would reach the machine
    "image": SHA256,  # it becomes the name of a file
    "previous": SHA256,
    "refused": SHA256,
}


def loopback(address: object) -> str:
    """Return an address that is this host's own. Raises ValueError for any other."""
    if not isinstance(address, str) or LOOPBACK.fullmatch(address) is None:
        raise ValueError("it is no loopback address")
    return address


class CorruptSpecError(B2dError):
    """A machine's description says nothing: `up` mends it (broken.py). `moved` is what it says of another folder's."""

    def __init__(self, message: str, name: str, moved: "MachineSpec | None" = None) -> None:
        super().__init__(message, hint=f"b2d up --vm {name}")
        self.moved = moved


def parse(path: Path, name: str, content: bytes) -> "MachineSpec":
    """Return the spec of the machine `name` that the `content` of `path` describes. Raises Broken, and B2dError."""
    from b2d.models import HARDWARE, MachineSpec

    try:
        kept = json_text.parse(content)
    except ValueError as error:
        raise CorruptSpecError(f"{path} is not JSON: {error}", name) from error
    if not isinstance(kept, dict) or type(kept.get("schema")) is not int:
        raise CorruptSpecError(f"{path} is not a machine's description", name)
    if kept.pop("schema") > SCHEMA:
        raise B2dError(f"{path} was written by a newer b2d", hint=NEWER_HINT)
    for key in sorted(kept.keys() - MachineSpec.__dataclass_fields__.keys()):
        raise B2dError(f"{path}: {key[:MAX_LENGTH]!r} is not known", hint=NEWER_HINT)
    for problem in _problems(kept):
        raise CorruptSpecError(f"{path}: {problem}", name)
    kept |= {key: tuple(value) for key, value in kept.items() if isinstance(value, list)}  # JSON knows no tuple
    spec = MachineSpec(**kept)
    if spec.hardware > HARDWARE:
        raise B2dError(f"{path} was written by a newer b2d", hint=NEWER_HINT)
    if spec.name.casefold() == name.casefold() and spec.name != name:
        raise ConfigError(f"the machine is called {spec.name}, not {name}", hint=f"--vm {spec.name}")
    if spec.name != name:
        raise CorruptSpecError(
            f"{path} describes the machine {spec.name!r}: the folder was moved or copied", name, spec
        )
    return spec


def _problems(kept: dict[str, Any]) -> Iterator[str]:
    from b2d.models import MachineSpec

    known = {field.name: field for field in fields(MachineSpec)}
    for key, field in known.items():
        if key not in kept:
            if field.default is field.default_factory:  # both MISSING: it has to be there
                yield f"{key!r} is missing"
        elif not _has_type(kept[key], field.type) or not _is_possible(key, kept[key]):
            yield f"{key!r} cannot be {repr(kept[key])[:80]}"


def _has_type(value: object, kind: object) -> bool:
    """Tell whether JSON's value can be a field of that type."""
    if isinstance(kind, type):
        return type(value) is kind
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _is_possible(key: str, value: Any) -> bool:
    if key in RANGES:
        return bool(RANGES[key][0] <= value <= RANGES[key][1])
    if key in FORMS and value:
        return FORMS[key].fullmatch(value) is not None
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return all(len(text) <= MAX_LENGTH and _can_be_said(text) for text in texts)


def _can_be_said(text: str) -> bool:
    """False for what no path, and no argument of a program, can hold."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
