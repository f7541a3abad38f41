"""The effective settings: what flags, the environment and config.toml say, in this order, and where each came from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from b2d.errors import ConfigError
from b2d.layout import Home
from b2d.settings import Settings

PREFIX = "B2D_"
DEFAULT = "default"
NOTHING = "none"  # a list with nothing in it, where an empty text counts as not said
TRUE, FALSE = ("1", "yes", "true", "on"), ("0", "no", "false", "off")
CHOICES = {
    "driver": ("auto", "qemu", "virtualbox"),
    "accelerator": ("auto", "kvm", "hvf", "whpx", "tcg"),
}
RANGES = {  # both ends included; units as in settings.py
    "memory": (256, 1 << 20),
    "cpus": (0, 256),
    "disk": (1000, 4 << 20),
    "ssh_port": (1, 65535),
    "docker_port": (1, 65535),
    "wait": (1, 86400),
    "stop_wait": (1, 3600),
}


@dataclass(frozen=True, slots=True)
class Effective:
    """The settings, and for each its origin: "default", a file, a variable or a flag."""

    settings: Settings
    origins: dict[str, str]


def home(environ: Mapping[str, str]) -> Home:
    """Where everything of b2d lies: $B2D_HOME, else ~/.b2d. Raises ConfigError where nobody knows what ~ is."""
    chosen = environ.get("B2D_HOME") or "~/.b2d"
    try:
        return Home(Path(chosen).expanduser().absolute())
    except RuntimeError as error:
        raise ConfigError(f"{chosen} is nowhere: {error}", hint="set B2D_HOME to a folder") from error


def load(where: Home, environ: Mapping[str, str], flags: Mapping[str, object]) -> Effective:
    """Merge all that was said. Raises ConfigError naming the origin of what cannot be. A flag of None was not given."""
    settings, origins = Settings(), {field.name: DEFAULT for field in fields(Settings)}
    spoken: list[tuple[str, str, object]] = [(str(where.config), key, value) for key, value in _of_file(where.config)]
    spoken += [(PREFIX + key.upper(), key, value) for key, value in _of_environment(environ)]
    spoken += [("--" + key.replace("_", "-"), key, value) for key, value in flags.items() if value is not None]
    for origin, key, value in spoken:
        settings = replace(settings, **{key: _value(origin, key, value)})
        origins[key] = origin
    return Effective(settings, origins)


def _of_file(path: Path) -> list[tuple[str, object]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    import tomllib

    try:
        said = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}", hint="a line is for example: memory = 2048") from error
    for key in said:
        check_key(key, str(path))
    return list(said.items())


def _of_environment(environ: Mapping[str, str]) -> list[tuple[str, object]]:
    known = {PREFIX + field.name.upper(): field.name for field in fields(Settings)}
    return [(known[name], value) for name, value in environ.items() if name in known and value != ""]


def check_key(key: str, origin: str = "") -> None:
    """Raise ConfigError unless there is such a setting."""
    known = [field.name for field in fields(Settings)]
    if key not in known:
        import difflib

        near = difflib.get_close_matches(key, known, n=1)
        meant = f": did you mean {near[0]!r}?" if near else ""
        where = f"{origin}: " if origin else ""
        raise ConfigError(f"{where}there is no setting {key!r}{meant}", hint=f"one of {', '.join(known)}")


def _value(origin: str, key: str, value: object) -> Any:
    kind = type(getattr(Settings(), key))
    converted = _CONVERT[kind](value)
    if converted is None:
        wanted = {bool: "yes or no", int: "a whole number", str: "a text", tuple: "a list of texts, or none"}[kind]
        raise ConfigError(f"{origin}: {key} cannot be {value!r}", hint=f"give {wanted}")
    if key in CHOICES and converted not in CHOICES[key]:
        raise ConfigError(f"{origin}: {key} cannot be {value!r}", hint=f"one of {', '.join(CHOICES[key])}")
    if key in RANGES and not RANGES[key][0] <= converted <= RANGES[key][1]:
        low, high = RANGES[key]
        raise ConfigError(f"{origin}: {key} cannot be {value!r}", hint=f"from {low} to {high}")
    if key == "address" and converted and not _is_loopback(converted):
        raise ConfigError(f"{origin}: {key} cannot be {value!r}", hint="a loopback address, as 127.0.59.103")
    return converted


def _is_loopback(text: str) -> bool:
    """True for an address that nobody beyond this host can reach: nothing else keeps a Docker without TLS from them."""
    from ipaddress import AddressValueError, IPv4Address

    try:
        return IPv4Address(text).is_loopback
    except AddressValueError:
        return False


def _bool(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    return True if text in TRUE else False if text in FALSE else None


def _int(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _tuple(value: object) -> tuple[str, ...] | None:
    """A list of TOML's; of a variable what commas separate."""
    if isinstance(value, str):
        return () if value == NOTHING else tuple(filter(None, value.split(",")))
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    return None


_CONVERT: dict[type, Callable[[object], Any]] = {bool: _bool, int: _int, str: _str, tuple: _tuple}
