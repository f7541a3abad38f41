"""Parse foreign TOML."""

import re
from typing import Any

SIZE_LIMIT = 1 << 18  # characters; a long settings file has a few KiB
LARGEST = 1 << 64  # TOML's numbers have 64 bits
MAX_DEPTH = 50  # nested tables and lists
DOTS = 100  # in the keys of a line: parsing takes quadratic time
QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")


def parse(text: str) -> dict[str, Any]:
    """Return the document. Raises ValueError, also for deep nesting, a long text and very large numbers."""
    import tomllib

    if len(text) > SIZE_LIMIT:
        raise ValueError(f"it has more than {SIZE_LIMIT} characters")
    if any(line.count(".") > DOTS and QUOTED.sub("", line).count(".") > DOTS for line in text.split("\n")):
        raise ValueError("it is nested too deeply")
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check(document)
    return document


def _check(document: dict[str, Any]) -> None:
    """Raise ValueError for values that cannot be printed: very large numbers, and deep nesting."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        if any(type(item) is int and abs(item) > LARGEST for item in level):
            raise ValueError("it has a number of more than 64 bits")
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise ValueError("it is nested too deeply")
