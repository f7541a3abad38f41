"""The text of a TOML file: where something is said in it, and how to say one thing otherwise and leave the rest."""

import re
from typing import Any

ESCAPES = {sign: f"\\u{sign:04x}" for sign in (*range(32), 127)} | {ord(sign): f"\\{sign}" for sign in '"\\'}


def literal(value: object) -> str:
    """A truth, a whole number, a text or several, as it is written there."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else f'"{str(value).translate(ESCAPES)}"'


def line_of(text: str, key: str) -> int:
    """The line on which `key` is said, the first being 1; 0 where that cannot be told."""
    span = _span(_lines(text), key)
    return span[0] + 1 if span else 0


def with_value(text: str, key: str, value: object) -> str:
    """A sound text, with `key` said to be `value`: where it was said before, with its comment, else at the end."""
    lines = _lines(text)
    said = f"{key} = {literal(value)}"
    span = _span(lines, key)
    if span:
        first, behind = span
        lines[first:behind] = [said + _rest("".join(lines[first:behind]))]
        return "".join(lines)
    return f"{text}\n{said}\n" if text and not text.endswith("\n") else f"{text}{said}\n"


def without(text: str, key: str) -> str:
    """A sound text that says nothing of `key`."""
    lines = _lines(text)
    span = _span(lines, key)
    if span:
        del lines[span[0] : span[1]]
    return "".join(lines)


def _lines(text: str) -> list[str]:
    """Each with its end. Python's own would end one at a sign that may be in a value."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _span(lines: list[str], key: str) -> tuple[int, int] | None:
    """The lines from which to before which `key` is said: what looks like it may be inside of a long text."""
    begins = re.compile(rf"""\s*\[*\s*(?:{re.escape(key)}|"{re.escape(key)}"|'{re.escape(key)}')\s*[=.\]]""")
    for first, line in enumerate(lines):
        if begins.match(line) and _parsed("".join(lines[:first])) is not None:
            for behind in range(first + 1, len(lines) + 1):
                if key in (_parsed("".join(lines[:behind])) or {}):
                    return first, behind
    return None


def _parsed(text: str) -> dict[str, Any] | None:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _rest(said: str) -> str:
    """What stands behind the value: a comment with the blanks before it, and the line's end."""
    whole = _parsed(said)
    for place, sign in enumerate(said):
        if sign == "#" and _parsed(said[:place]) == whole:
            return said[len(said[:place].rstrip()) :]
    return said[len(said.rstrip("\r\n")) :]
