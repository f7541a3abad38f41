"""config.toml changed by b2d itself: by one at a time, and only to what it can read again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from b2d.config import loader
from b2d.config.loader import Said
from b2d.config.settings import Settings
from b2d.config.toml_edit import literal, with_value, without
from b2d.errors import Busy, ConfigError
from b2d.host.files import private_folder, read_bounded, refusals_told, refuse_anothers, write_whole
from b2d.paths import Home

LOCK_WAIT_S = 5.0


def put(home: Home, environ: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Say it there. Raises ConfigError for what cannot be, or when nobody can read what is there already."""
    values = {key: loader.value(Said("", key, value, key)) for key, value in wanted.items()}
    with _alone(home):
        text = _sound(home, environ)
        for key, value in values.items():
            text = with_value(text, key, value)
        _keep(home, text)


def take_out(home: Home, environ: Mapping[str, str], keys: tuple[str, ...]) -> None:
    """Say nothing of these there; not said: nothing. Raises ConfigError."""
    with _alone(home):
        before = text = _sound(home, environ)
        for key in keys:
            text = without(text, key)
        if text != before:
            _keep(home, text)


def edit(home: Home, environ: Mapping[str, str], editor: Callable[[], None]) -> bool:
    """Let `editor` change home.config_draft, and take it if it can be read; False when it was left as it was.

    Raises ConfigError for what cannot be. The draft stays then, and the next one goes on with it.
    """
    with _alone(home), refusals_told(home.config_draft):
        draft = home.config_draft
        before = read_bounded(home.config) if home.config.exists() else _first(environ).encode()
        if not draft.exists():
            write_whole(draft, before)
        try:
            editor()
        finally:
            changed = draft.exists() and read_bounded(draft) != before
            if not changed:
                draft.unlink(missing_ok=True)
        if changed:
            text = loader.read(draft) or ""
            _check(draft.name, text)
            _keep(home, text)
            draft.unlink()
        return changed


def _sound(home: Home, environ: Mapping[str, str]) -> str:
    """What is in force: config.toml, or where there is none, what boot2docker's profile says."""
    text = loader.read(home.config)
    if text is None:
        return _taken_over(environ)
    _check(str(home.config), text)
    return text


def _taken_over(environ: Mapping[str, str]) -> str:
    """What boot2docker's profile says, in today's words: it is read no more once there is a config.toml."""
    found, _ = loader.of_profile(environ)
    lines = {said.key: f"{said.key} = {literal(loader.value(said))}\n" for said in found}
    return f"# taken over from {found[0].origin}\n{''.join(lines.values())}" if lines else ""


def _first(environ: Mapping[str, str]) -> str:
    """What somebody begins with who has no config.toml."""
    usual = "".join(f"# {field.name} = {literal(field.default)}\n" for field in fields(Settings))
    return f"{_taken_over(environ)}# as it is unasked; docs/commands.md tells what each means\n{usual}"


def _check(origin: str, text: str) -> None:
    for said in loader.of_text(origin, text):
        loader.value(said)


def _keep(home: Home, text: str) -> None:
    content = text.encode("utf-8", "surrogateescape")  # where the locale is ASCII, what is typed comes in so
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"TOML is UTF-8, and cannot hold {content[error.start : error.end]!r}") from error
    with refusals_told(home.config):
        write_whole(home.config.resolve(), content)  # it may be a link to where somebody keeps such files


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold config.toml. Raises Busy."""
    from filelock import FileLock, Timeout

    with refusals_told(home.config_lock):
        refuse_anothers(home.root)
        private_folder(home.root)
        try:
            lock = FileLock(home.config_lock).acquire(timeout=LOCK_WAIT_S)
        except Timeout:
            raise Busy(f"{home.config} is changed by another b2d", hint="try again when that has ended") from None
    with lock:
        yield
