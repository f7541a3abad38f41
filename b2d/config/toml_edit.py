"""The text of a TOML file: where something is said in it, and how to say one thing otherwise and leave the rest."""

import re
from typing import Any

READ_LIMIT = 100_000  # lines that are read again and again to find one
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
    lines = re.findall(r".*\n|.+", text)  # Python's own would end one at a sign that may be in a value
    begins = re.compile(rf"""\s*\[*\s*(?:{re.escape(key)}|"{re.escape(key)}"|'{re.escape(key)}')\s*[=.\]]""")
    left = READ_LIMIT
    for number, line in enumerate(lines):
        # what looks like it may be inside of a long text
        if not begins.match(line) or (left := left - number) < 0 or _parsed("".join(lines[:number])) is None:
            continue
        for behind in range(number + 1, len(lines) + 1):
            if (left := left - behind) < 0:
                return 0
            if key in (_parsed("".join(lines[:behind])) or {}):
                return number + 1
    return 0


def set_value(text: str, key: str, value: object) -> str:
    """A sound text, with `key` said to be `value`: where it was said before, with its comment, else at the end."""
    import tomlkit

    document = tomlkit.parse(text)
    document[key] = value
    return tomlkit.dumps(document)


def unset_value(text: str, key: str) -> str:
    """A sound text that says nothing of `key`."""
    import tomlkit

    document = tomlkit.parse(text)
    document.pop(key, None)
    return tomlkit.dumps(document)


def _parsed(text: str) -> dict[str, Any] | None:
    from b2d.formats import toml_document

    try:
        return toml_document.parse(text)
    except ValueError:
        return None
