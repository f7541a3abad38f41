"""Changes of config.toml: under a lock, and only to a file that b2d can read again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from b2d.config import loader
from b2d.config.loader import RawSetting
from b2d.config.settings import Settings
from b2d.config.toml_edit import format_literal, set_value, unset_value
from b2d.errors import ConfigError, MachineLockedError
from b2d.host.files import check_owner, os_errors_as_b2d_errors, private_folder, read_bounded, write_atomic
from b2d.paths import Home

LOCK_WAIT_S = 5.0


def set_values(home: Home, environ: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Set values in config.toml. Raises ConfigError for an invalid value, or when the file cannot be read."""
    values = {key: loader.parse_value(RawSetting("", key, value, key)) for key, value in wanted.items()}
    with _lock(home):
        text = _require_valid(home, environ)
        for key, value in values.items():
            text = set_value(text, key, value)
        _save(home, text)


def unset_values(home: Home, environ: Mapping[str, str], keys: tuple[str, ...]) -> None:
    """Remove settings from config.toml; one that is not in it is ignored. Raises ConfigError."""
    with _lock(home):
        before = text = _require_valid(home, environ)
        for key in keys:
            text = unset_value(text, key)
        if text != before:
            _save(home, text)


def edit(home: Home, environ: Mapping[str, str], editor: Callable[[], None]) -> bool:
    """Let `editor` change home.config_draft, and save it if it is valid; return False when it was not changed.

    Raises ConfigError for an invalid draft, which is kept: the next edit continues with it.
    """
    with _lock(home), os_errors_as_b2d_errors(home.config_draft):
        draft = home.config_draft
        before = read_bounded(home.config) if home.config.exists() else _template(environ).encode()
        if not draft.exists():
            write_atomic(draft, before)
        try:
            editor()
        finally:
            changed = draft.exists() and read_bounded(draft) != before
            if not changed:
                draft.unlink(missing_ok=True)
        if changed:
            text = loader.read(draft) or ""
            _check(draft.name, text)
            _save(home, text)
            draft.unlink()
        return changed


def _require_valid(home: Home, environ: Mapping[str, str]) -> str:
    """Return the text in force: config.toml, or without one the settings of boot2docker's profile."""
    text = loader.read(home.config)
    if text is None:
        return _profile_as_toml(environ)
    _check(str(home.config), text)
    return text


def _profile_as_toml(environ: Mapping[str, str]) -> str:
    """Convert boot2docker's profile to config.toml: the profile is not read any more once there is a config.toml."""
    raw_settings, _ = loader.parse_profile(environ)
    lines = {raw.key: f"{raw.key} = {format_literal(loader.parse_value(raw))}\n" for raw in raw_settings}
    return f"# converted from {raw_settings[0].origin}\n{''.join(lines.values())}" if lines else ""


def _template(environ: Mapping[str, str]) -> str:
    """Return the text that a new config.toml begins with: the profile's settings, and all defaults as comments."""
    defaults = "".join(f"# {key} = {format_literal(value)}\n" for key, value in Settings()._asdict().items())
    return f"{_profile_as_toml(environ)}# the defaults; docs/commands.md explains each setting\n{defaults}"


def _check(origin: str, text: str) -> None:
    for raw in loader.parse_toml(origin, text):
        loader.parse_value(raw)


def _save(home: Home, text: str) -> None:
    content = text.encode("utf-8", "surrogateescape")  # arguments hold surrogates where the locale is ASCII
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{content[error.start : error.end]!r} is not UTF-8, which TOML needs") from error
    with os_errors_as_b2d_errors(home.config):
        write_atomic(home.config.resolve(), content)  # config.toml may be a link, for example into a folder of dotfiles


@contextmanager
def _lock(home: Home) -> Iterator[None]:
    """Hold the lock of config.toml. Raises MachineLockedError."""
    from filelock import FileLock, Timeout

    with os_errors_as_b2d_errors(home.config_lock):
        check_owner(home.root)
        private_folder(home.root)
        try:
            lock = FileLock(home.config_lock).acquire(timeout=LOCK_WAIT_S)
        except Timeout:
            raise MachineLockedError(
                f"another b2d is changing {home.config}", hint="try again when it has ended"
            ) from None
    with lock:
        yield
