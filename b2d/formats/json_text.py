"""Parse foreign JSON, and turn values into what can be written as JSON."""

import math
from typing import Any, NoReturn

MAX_DEPTH = 200  # nested lists and objects: code that walks a document has a limited stack


def parse(content: bytes | str) -> Any:
    """Return the document. Raises ValueError, also for deep nesting, invalid UTF-8 and numbers that are not finite."""
    import json

    try:
        document = json.loads(content, parse_constant=_refuse_constant, parse_float=_parse_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _count_brackets(content) > MAX_DEPTH:
        _check_depth(document)
    return document


def texts(value: object) -> list[str]:
    """Return a list of strings. Raises ValueError for anything else."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it is not a list of strings")
    return value


def text(value: object) -> str:
    """Return a string. Raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError("it is not a string")
    return value


def document(value: Any) -> Any:
    """Return a value with its named tuples, at any depth, as objects; `json` itself writes them as lists."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: document(item) for key, item in value.items()}
    return [document(item) for item in value] if isinstance(value, list | tuple) else value


def _count_brackets(content: bytes | str) -> int:
    """Return an upper limit for the number of lists and objects."""
    if isinstance(content, str):
        return content.count("[") + content.count("{")
    return content.count(b"[") + content.count(b"{")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]!r} is too large a number")
    return number


def _check_depth(document: object) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise ValueError("it is nested too deeply")
