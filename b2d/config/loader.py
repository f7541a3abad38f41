"""The effective settings and their origins, merged from flags, the environment and a file, in this order."""

import re
from collections.abc import Callable, Mapping
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
MAX_VALUE_LENGTH = 1 << 20  # bytes of a settings file, and characters of a secret on stdin
PROGRAM = "vboxapi"  # the setting that names code, which b2d itself runs
DEFAULT = "default"
NOTHING = "none"  # an empty list; an empty string counts as not set
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
    "templates": (0, 1 << 20),
}


class ResolvedSettings(NamedTuple):
    """The settings, and for each its origin: "default", a file, a variable or a flag."""

    settings: Settings
    origins: dict[str, str]
    remarks: list[str]  # ignored settings, one line each


class RawSetting(NamedTuple):
    """A setting as it was given: `word` is its spelling there, `text` the content of the file it is from."""

    origin: str
    key: str
    value: object
    word: str
    text: str = ""

    @property
    def place(self) -> str:
        """The origin, with the line number for a file, which is searched only for an error message."""
        if not self.text:
            return self.origin
        from b2d.config.toml_edit import find_line

        line = find_line(self.text, self.word)
        return f"{self.origin}:{line}" if line else self.origin


ParsedSettings = tuple[list[RawSetting], list[str]]  # and one line for each ignored setting


def resolve_home(environ: Mapping[str, str]) -> Home:
    """Return the home of b2d: $B2D_HOME, else ~/.b2d. Raises ConfigError for an impossible path."""
    chosen = environ.get("B2D_HOME") or "~/.b2d"
    try:
        root = Path(chosen).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"{chosen} cannot be resolved: {error}", hint="set B2D_HOME to a folder") from error
    if "\n" in str(root) or "\r" in str(root):
        raise ConfigError(
            f"{str(root)!r} contains a line break, which B2D_HOME must not", hint="set B2D_HOME to a folder"
        )
    return Home(root)


def load(where: Home, environ: Mapping[str, str], flags: Mapping[str, object]) -> ResolvedSettings:
    """Merge the settings of files, environment and flags; a flag of None was not given.

    Raises ConfigError, naming the origin of an invalid value.
    """
    settings, origins = Settings(), dict.fromkeys(Settings._fields, DEFAULT)
    # proxy variables may be meant for other programs, so they are not validated
    for key, (name, proxy) in endpoints.host_proxies(environ).items():
        change: dict[str, Any] = {key: proxy}
        settings, origins[key] = settings._replace(**change), name
    given = {key: value for key, value in flags.items() if value is not None}
    old_flags = {_flag(key): value for key, value in given.items() if key not in origins}
    from_files, file_remarks = _from_files(where, environ)
    from_old_flags, flag_remarks = _from_boot2docker("", old_flags)
    raw_settings = [
        *from_files,
        *(RawSetting(PREFIX + key.upper(), key, value, key) for key, value in _from_environment(environ)),
        *from_old_flags,
        *(RawSetting(_flag(key), key, value, key) for key, value in given.items() if key in origins),
    ]
    for raw in raw_settings:
        settings = settings._replace(**{raw.key: parse_value(raw)})
        origins[raw.key] = raw.origin
    return ResolvedSettings(settings, origins, file_remarks + flag_remarks)


def _from_files(where: Home, environ: Mapping[str, str]) -> ParsedSettings:
    """Return the settings of config.toml, or without one those of boot2docker's profile."""
    text = read(where.config)
    if text is None:
        return parse_profile(environ)
    raw_settings = parse_toml(str(where.config), text)
    if not any(raw.key == PROGRAM for raw in raw_settings) or not is_of_others(where.config):
        return raw_settings, []
    remark = f"{where.config}: {PROGRAM} is ignored, as it names a program to run and other users can write that file"
    return [raw for raw in raw_settings if raw.key != PROGRAM], [remark]


def read(path: Path) -> str | None:
    """Return the text of a file, None when it does not exist. Raises ConfigError."""
    try:
        return read_bounded(path, MAX_VALUE_LENGTH).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte {error.start}") from error


def parse_toml(origin: str, text: str) -> list[RawSetting]:
    """Parse the text of a config.toml. Raises ConfigError for an unknown key."""
    raw_settings = [RawSetting(origin, key, value, key, text) for key, value in _parse_table(origin, text).items()]
    for raw in raw_settings:
        check_key(raw.key, raw.place)
    return raw_settings


def parse_profile(environ: Mapping[str, str]) -> ParsedSettings:
    """Parse boot2docker's profile, if there is one."""
    from b2d.config import boot2docker_profile

    path = boot2docker_profile.profile_path(environ)
    text = read(path) if path is not None else None
    if path is None or text is None:
        return [], []
    return _from_boot2docker(
        str(path), boot2docker_profile.profile_settings(_parse_table(str(path), text), path.parent), text
    )


def _from_boot2docker(origin: str, words: Mapping[str, object], text: str = "") -> ParsedSettings:
    """Convert boot2docker's options to settings. Flags are their own origins."""
    if not words:
        return [], []
    from b2d.config import boot2docker_profile

    ignored = boot2docker_profile.unsupported_options(words)
    remarks = [f"{origin}{': ' if origin else ''}ignored: {ignored}"] if ignored else []
    return [
        RawSetting(origin or word, key, value, word, text)
        for word, key, value in boot2docker_profile.convert_options(words)
    ], remarks


def _parse_table(origin: str, text: str) -> dict[str, object]:
    if not text:
        return {}
    from b2d.formats import toml_document

    try:
        return toml_document.parse(text)
    except ValueError as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}", hint="example of a line: memory = 2048") from error


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, object]]:
    known = {PREFIX + key.upper(): key for key in Settings._fields}
    return [(known[name], value) for name, value in environ.items() if name in known and value != ""]


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def check_key(key: str, origin: str = "") -> None:
    """Raise ConfigError unless `key` is a setting."""
    known = Settings._fields
    if key not in known:
        import difflib

        matches = difflib.get_close_matches(key, known, n=1)
        question = f": did you mean {matches[0]!r}?" if matches else ""
        prefix = f"{origin}: " if origin else ""
        raise ConfigError(f"{prefix}there is no setting {key!r}{question}", hint=f"one of {', '.join(known)}")


def parse_value(raw: RawSetting) -> Any:
    """Convert and validate a value for its setting. Raises ConfigError."""
    key = raw.key
    kind = type(Settings._field_defaults[key])
    converted = _CONVERT[kind](raw.value)
    if converted is None:
        expected = {bool: "yes or no", int: "an integer", str: "a string", tuple: "a list of strings, or none"}[kind]
        raise _invalid_value(raw, f"give {expected}")
    if key in CHOICES and converted not in CHOICES[key]:
        raise _invalid_value(raw, f"one of {', '.join(CHOICES[key])}")
    if key in RANGES and not RANGES[key][0] <= converted <= RANGES[key][1]:
        raise _invalid_value(raw, "from {} to {}".format(*RANGES[key]))
    if key == "vm" and not machine_names.is_valid(converted):
        raise ConfigError(f"{_prefix(raw)}{converted!r} is not a valid machine name", hint=machine_names.HINT)
    if key == "address" and converted and not _is_loopback(converted):
        raise _invalid_value(raw, "a loopback address, for example 127.0.59.103")
    if key == "password" and converted and not PASSWORD.fullmatch(converted):
        raise _invalid_value(raw, "up to 100 printable ASCII characters, without spaces at the ends")
    if hint := endpoints.proxy_refusal(key, converted):
        raise _invalid_value(raw, hint)
    return converted


def _prefix(raw: RawSetting) -> str:
    return f"{raw.place}: " if raw.place else ""


def _invalid_value(raw: RawSetting, hint: str) -> ConfigError:
    value = ",".join(map(str, raw.value)) if isinstance(raw.value, (list, tuple)) else raw.value
    if raw.key in endpoints.HINTS:
        value = endpoints.without_password(str(value))
    if raw.key == "password":
        value = endpoints.REDACTED
    return ConfigError(f"{_prefix(raw)}{raw.word.lstrip('-')} cannot be {value!r}", hint=hint)


def _is_loopback(text: str) -> bool:
    """Return True for an address that only this host can reach: nothing else protects a Docker without TLS."""
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
    """Convert a list of TOML's, or a variable's comma-separated list."""
    if isinstance(value, str):
        return () if value == NOTHING else tuple(filter(None, value.split(",")))
    if value == (NOTHING,):
        return ()
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    return None


_CONVERT: dict[type, Callable[[object], Any]] = {bool: _bool, int: _int, str: _str, tuple: _tuple}
