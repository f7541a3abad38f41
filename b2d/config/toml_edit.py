"""Edits of a TOML file's text: find the line of a key, and change a key while the rest is unchanged."""

import re
from typing import Any

READ_LIMIT = 100_000  # lines parsed in total, over all attempts to find a key
ESCAPES = {sign: f"\\u{sign:04x}" for sign in (*range(32), 127)} | {ord(sign): f"\\{sign}" for sign in '"\\'}


def format_literal(value: object) -> str:
    """Return a boolean, an integer, a string or a sequence of these as TOML."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(format_literal, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else f'"{str(value).translate(ESCAPES)}"'


def find_line(text: str, key: str) -> int:
    """Return the number of the line that sets `key`, the first being 1; 0 when it is not known."""
    lines = re.findall(r".*\n|.+", text)  # str.splitlines also splits at characters that a value may contain
    assignment = re.compile(rf"""\s*\[*\s*(?:{re.escape(key)}|"{re.escape(key)}"|'{re.escape(key)}')\s*[=.\]]""")
    budget = READ_LIMIT
    for number, line in enumerate(lines):
        # a line that looks like an assignment may be inside a multi-line string
        if not assignment.match(line) or (budget := budget - number) < 0 or _parse("".join(lines[:number])) is None:
            continue
        for end in range(number + 1, len(lines) + 1):
            if (budget := budget - end) < 0:
                return 0
            if key in (_parse("".join(lines[:end])) or {}):
                return number + 1
    return 0


def set_value(text: str, key: str, value: object) -> str:
    """Return valid TOML with `key` set to `value`: in its place and with its comment if it was set, else at the end."""
    import tomlkit

    document = tomlkit.parse(text)
    document[key] = value
    return tomlkit.dumps(document)


def unset_value(text: str, key: str) -> str:
    """Return valid TOML without `key`."""
    import tomlkit

    document = tomlkit.parse(text)
    document.pop(key, None)
    return tomlkit.dumps(document)


def _parse(text: str) -> dict[str, Any] | None:
    from b2d.formats import toml_document

    try:
        return toml_document.parse(text)
    except ValueError:
        return None
