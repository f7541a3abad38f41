"""The effective settings: what flags, the environment and a file say, in this order, and where each came from."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from b2d import machine_names
from b2d.config.settings import Settings
from b2d.errors import ConfigError
from b2d.host.files import is_of_others, read_bounded
from b2d.network import endpoints
from b2d.paths import Home

PREFIX = "B2D_"
PASSWORD = re.compile(r"(?=\S)[\x20-\x7e]{1,100}(?<=\S)")
MAX_VALUE_LENGTH = 1 << 20  # bytes of a file of settings
PROGRAM = "vboxapi"  # the setting that names code: b2d runs it itself
DEFAULT = "default"
NOTHING = "none"  # a list with nothing in it, where an empty text counts as not said
TRUE, FALSE = ("1", "yes", "true", "on"), ("0", "no", "false", "off")
CHOICES = {
    "driver": ("auto", "qemu", "virtualbox"),
    "accelerator": ("auto", "kvm", "hvf", "whpx", "tcg"),
    "mount_type": ("auto", "virtiofs", "9p"),
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
class ResolvedSettings:
    """The settings, and for each its origin: "default", a file, a variable or a flag."""

    settings: Settings
    origins: dict[str, str]
    remarks: list[str] = field(default_factory=list)  # what was said in vain, one line each


class RawSetting(NamedTuple):  # not a dataclass: to make one of those takes as long as to read the file
    """Somebody's wish; `word` is what they call the setting, `text` the file in which they do."""

    origin: str
    key: str
    value: object
    word: str
    text: str = ""

    @property
    def place(self) -> str:
        """The origin, with the line where it is a file: looked for only when something is wrong."""
        if not self.text:
            return self.origin
        from b2d.config.toml_edit import line_of

        line = line_of(self.text, self.word)
        return f"{self.origin}:{line}" if line else self.origin


ParsedSettings = tuple[list[RawSetting], list[str]]  # with one line on each thing that was said in vain


def home(environ: Mapping[str, str]) -> Home:
    """Where everything of b2d lies: $B2D_HOME, else ~/.b2d. Raises ConfigError for what can be no home."""
    chosen = environ.get("B2D_HOME") or "~/.b2d"
    try:
        found = Path(chosen).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"{chosen} is nowhere: {error}", hint="set B2D_HOME to a folder") from error
    if "\n" in str(found) or "\r" in str(found):
        raise ConfigError(f"{str(found)!r} cannot be a home: it holds a line break", hint="set B2D_HOME to a folder")
    return Home(found)


def load(where: Home, environ: Mapping[str, str], flags: Mapping[str, object]) -> ResolvedSettings:
    """Merge all that was said. Raises ConfigError naming the origin of what cannot be. A flag of None was not given."""
    settings, origins = Settings(), dict.fromkeys(_known_key(), DEFAULT)
    for key, (name, said_there) in endpoints.host_proxies(
        environ
    ).items():  # it may be meant for others, and is not judged
        wish: dict[str, Any] = {key: said_there}
        settings, origins[key] = replace(settings, **wish), name
    given = {key: value for key, value in flags.items() if value is not None}
    old = {_flag(key): value for key, value in given.items() if key not in origins}
    of_files, remarks = _from_files(where, environ)
    of_flags, more = _from_boot2docker("", old)
    spoken = [
        *of_files,
        *(RawSetting(PREFIX + key.upper(), key, value, key) for key, value in _from_environment(environ)),
        *of_flags,
        *(RawSetting(_flag(key), key, value, key) for key, value in given.items() if key in origins),
    ]
    for said in spoken:
        settings = replace(settings, **{said.key: value(said)})
        origins[said.key] = said.origin
    return ResolvedSettings(settings, origins, remarks + more)


def _from_files(where: Home, environ: Mapping[str, str]) -> ParsedSettings:
    """What config.toml says, or where there is none, boot2docker's profile."""
    text = read(where.config)
    if text is None:
        return parse_profile(environ)
    said = parse_toml(str(where.config), text)
    if not any(one.key == PROGRAM for one in said) or not is_of_others(where.config):
        return said, []
    remark = f"{where.config}: not heeded, since others than you can write that file: {PROGRAM}, which is run"
    return [one for one in said if one.key != PROGRAM], [remark]


def read(path: Path) -> str | None:
    """The text of a file, None where there is none. Raises ConfigError."""
    try:
        return read_bounded(path, MAX_VALUE_LENGTH).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte {error.start}") from error


def parse_toml(origin: str, text: str) -> list[RawSetting]:
    """What a config.toml of this text says. Raises ConfigError for a key that is no setting."""
    found = [RawSetting(origin, key, value, key, text) for key, value in _profile_table(origin, text).items()]
    for said in found:
        check_key(said.key, said.place)
    return found


def parse_profile(environ: Mapping[str, str]) -> ParsedSettings:
    """What boot2docker's profile says, where there is one."""
    from b2d.config import boot2docker_profile

    path = boot2docker_profile.path(environ)
    text = read(path) if path is not None else None
    if path is None or text is None:
        return [], []
    return _from_boot2docker(
        str(path), boot2docker_profile.profile_settings(_profile_table(str(path), text), path.parent), text
    )


def _from_boot2docker(origin: str, words: Mapping[str, object], text: str = "") -> ParsedSettings:
    """What boot2docker's words say. Flags are their own origins."""
    if not words:
        return [], []
    from b2d.config import boot2docker_profile

    ignored = boot2docker_profile.unsupported_options(words)
    remarks = [f"{origin}{': ' if origin else ''}not heeded: {ignored}"] if ignored else []
    return [
        RawSetting(origin or word, key, value, word, text) for word, key, value in boot2docker_profile.settings(words)
    ], remarks


def _profile_table(origin: str, text: str) -> dict[str, object]:
    if not text:
        return {}
    from b2d.formats import toml_document

    try:
        return toml_document.parse(text)
    except ValueError as error:
        raise ConfigError(f"{origin} is not TOML: {error}", hint="a line is for example: memory = 2048") from error


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, object]]:
    known = {PREFIX + key.upper(): key for key in _known_key()}
    return [(known[name], value) for name, value in environ.items() if name in known and value != ""]


def _known_key() -> list[str]:
    return [field.name for field in fields(Settings)]


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def check_key(key: str, origin: str = "") -> None:
    """Raise ConfigError unless there is such a setting."""
    known = _known_key()
    if key not in known:
        import difflib

        near = difflib.get_close_matches(key, known, n=1)
        meant = f": did you mean {near[0]!r}?" if near else ""
        where = f"{origin}: " if origin else ""
        raise ConfigError(f"{where}there is no setting {key!r}{meant}", hint=f"one of {', '.join(known)}")


def value(said: RawSetting) -> Any:
    """What was said, as a setting has it. Raises ConfigError for what it cannot be."""
    key = said.key
    kind = type(getattr(Settings(), key))
    converted = _CONVERT[kind](said.value)
    if converted is None:
        wanted = {bool: "yes or no", int: "a whole number", str: "a text", tuple: "a list of texts, or none"}[kind]
        raise _invalid_value(said, f"give {wanted}")
    if key in CHOICES and converted not in CHOICES[key]:
        raise _invalid_value(said, f"one of {', '.join(CHOICES[key])}")
    if key in RANGES and not RANGES[key][0] <= converted <= RANGES[key][1]:
        raise _invalid_value(said, "from {} to {}".format(*RANGES[key]))
    if key == "vm" and not machine_names.is_valid(converted):
        raise ConfigError(f"{_where(said)}{converted!r} cannot be a machine's name", hint=machine_names.HINT)
    if key == "address" and converted and not _is_loopback(converted):
        raise _invalid_value(said, "a loopback address, as 127.0.59.103")
    if key == "password" and converted and not PASSWORD.fullmatch(converted):
        raise _invalid_value(said, "up to 100 letters, digits and signs, without blanks at its ends")
    if hint := endpoints.proxy_refusal(key, converted):
        raise _invalid_value(said, hint)
    return converted


def _where(said: RawSetting) -> str:
    return f"{said.place}: " if said.place else ""


def _invalid_value(said: RawSetting, hint: str) -> ConfigError:
    value = ",".join(map(str, said.value)) if isinstance(said.value, (list, tuple)) else said.value
    if said.key in endpoints.HINTS:
        value = endpoints.without_password(str(value))
    if said.key == "password":
        value = endpoints.REDACTED
    return ConfigError(f"{_where(said)}{said.word.lstrip('-')} cannot be {value!r}", hint=hint)


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
    if value == (NOTHING,):
        return ()
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    return None


_CONVERT: dict[type, Callable[[object], Any]] = {bool: _bool, int: _int, str: _str, tuple: _tuple}
