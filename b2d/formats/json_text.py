"""Parse JSON that somebody else wrote."""

import math
from typing import Any, NoReturn

DEEPEST = 200  # lists and objects in each other: whoever walks through or prints a document has a stack with an end


def parse(content: bytes | str) -> Any:
    """Return the document. Raises ValueError, also for what is nested too deeply, is no UTF-8, or no finite number."""
    import json

    try:
        found = json.loads(content, parse_constant=_refused, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _opened(content) > DEEPEST:
        _check_depth(found)
    return found


def texts(value: object) -> list[str]:
    """Return a list of texts. Raises ValueError for anything else."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("it is no list of texts")
    return value


def text(value: object) -> str:
    """Return a text. Raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError("it is no text")
    return value


def _opened(content: bytes | str) -> int:
    """Return how many lists and objects begin in it, at most."""
    if isinstance(content, str):
        return content.count("[") + content.count("{")
    return content.count(b"[") + content.count(b"{")


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON's")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]!r} is larger than any number")
    return number


def _check_depth(document: object) -> None:
    level = [document]
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [one for many in inner for one in many]
        if not level:
            return
    raise ValueError("it is nested too deeply")
