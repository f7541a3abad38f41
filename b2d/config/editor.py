"""config.toml changed by b2d itself: by one at a time, and only to what it can read again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from b2d.config import loader
from b2d.config.loader import RawSetting
from b2d.config.settings import Settings
from b2d.config.toml_edit import literal, set_value, unset_value
from b2d.errors import ConfigError, MachineLockedError
from b2d.host.files import check_owner, os_errors_as_b2d_errors, private_folder, read_bounded, write_atomic
from b2d.paths import Home

LOCK_WAIT_S = 5.0


def set_values(home: Home, environ: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Say it there. Raises ConfigError for what cannot be, or when nobody can read what is there already."""
    values = {key: loader.value(RawSetting("", key, value, key)) for key, value in wanted.items()}
    with _lock(home):
        text = _require_valid(home, environ)
        for key, value in values.items():
            text = set_value(text, key, value)
        _save(home, text)


def unset_values(home: Home, environ: Mapping[str, str], keys: tuple[str, ...]) -> None:
    """Say nothing of these there; not said: nothing. Raises ConfigError."""
    with _lock(home):
        before = text = _require_valid(home, environ)
        for key in keys:
            text = unset_value(text, key)
        if text != before:
            _save(home, text)


def edit(home: Home, environ: Mapping[str, str], editor: Callable[[], None]) -> bool:
    """Let `editor` change home.config_draft, and take it if it can be read; False when it was left as it was.

    Raises ConfigError for what cannot be. The draft stays then, and the next one goes on with it.
    """
    with _lock(home), os_errors_as_b2d_errors(home.config_draft):
        draft = home.config_draft
        before = read_bounded(home.config) if home.config.exists() else _first_line(environ).encode()
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
    """What is in force: config.toml, or where there is none, what boot2docker's profile says."""
    text = loader.read(home.config)
    if text is None:
        return _with_profile(environ)
    _check(str(home.config), text)
    return text


def _with_profile(environ: Mapping[str, str]) -> str:
    """What boot2docker's profile says, in today's words: it is read no more once there is a config.toml."""
    found, _ = loader.parse_profile(environ)
    lines = {said.key: f"{said.key} = {literal(loader.value(said))}\n" for said in found}
    return f"# taken over from {found[0].origin}\n{''.join(lines.values())}" if lines else ""


def _first_line(environ: Mapping[str, str]) -> str:
    """What somebody begins with who has no config.toml."""
    usual = "".join(f"# {field.name} = {literal(field.default)}\n" for field in fields(Settings))
    return f"{_with_profile(environ)}# as it is unasked; docs/commands.md tells what each means\n{usual}"


def _check(origin: str, text: str) -> None:
    for said in loader.parse_toml(origin, text):
        loader.value(said)


def _save(home: Home, text: str) -> None:
    content = text.encode("utf-8", "surrogateescape")  # where the locale is ASCII, what is typed comes in so
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"TOML is UTF-8, and cannot hold {content[error.start : error.end]!r}") from error
    with os_errors_as_b2d_errors(home.config):
        write_atomic(home.config.resolve(), content)  # it may be a link to where somebody keeps such files


@contextmanager
def _lock(home: Home) -> Iterator[None]:
    """Hold config.toml. Raises MachineLockedError."""
    from filelock import FileLock, Timeout

    with os_errors_as_b2d_errors(home.config_lock):
        check_owner(home.root)
        private_folder(home.root)
        try:
            lock = FileLock(home.config_lock).acquire(timeout=LOCK_WAIT_S)
        except Timeout:
            raise MachineLockedError(
                f"{home.config} is changed by another b2d", hint="try again when that has ended"
            ) from None
    with lock:
        yield
