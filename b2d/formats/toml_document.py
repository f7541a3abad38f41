"""Parse TOML that somebody else wrote."""

import re
from typing import Any

SIZE_LIMIT = 1 << 18  # characters; a long settings file has some kilobytes
LARGEST = 1 << 64  # a number of TOML's has 64 bits
DEEPEST = 50  # tables and lists in each other
DOTS = 100  # in the keys of a line: the time that reading takes grows with their square
QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")


def parse(text: str) -> dict[str, Any]:
    """Return the document. Raises ValueError, also for what is nested too deeply, too long, or has endless numbers."""
    import tomllib

    if len(text) > SIZE_LIMIT:
        raise ValueError(f"it has more than {SIZE_LIMIT} characters")
    if any(line.count(".") > DOTS and QUOTED.sub("", line).count(".") > DOTS for line in text.split("\n")):
        raise ValueError("it is nested too deeply")
    try:
        found = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check(found)
    return found


def _check(document: dict[str, Any]) -> None:
    """Raise ValueError for what nobody could print: a number of thousands of digits, a nest without an end."""
    level: list[Any] = [document]
    for _ in range(DEEPEST):
        if any(type(one) is int and abs(one) > LARGEST for one in level):
            raise ValueError("it has a number of more than 64 bits")
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [one for many in inner for one in many]
        if not level:
            return
    raise ValueError("it is nested too deeply")
