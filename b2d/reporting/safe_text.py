"""Text that somebody else may have written, as a terminal may show it.

A container's name, a server's answer or a guest's console may hold escape sequences, line breaks that forge a row, or
characters that change the direction of what follows. Whatever prints such text passes it through here.
"""

import re
from collections.abc import Iterator

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LINE_LIMIT = 4000  # characters of a sentence
PIECE = 1 << 18  # characters of a longer text that are looked at at once
CELL_LIMIT = 256  # characters of a cell of a table
BREAKS = re.compile(r"[^\S ]+")  # line breaks, tabs and the like, but no plain blanks: a hint is pasted
ENDS = re.compile(r"\A[^\S ]+|[^\S ]+\Z")
SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")  # ECMA-48


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Return at most `limit` characters in one line; what is not printable is replaced by U+FFFD."""
    line = BREAKS.sub(" ", ENDS.sub("", _decoded(text[:limit])))
    shown = line if line.isprintable() else "".join(char if char.isprintable() else REPLACEMENT for char in line)
    return shown if len(text) <= limit else shown[: limit - 1] + "…"


def many_lines(text: str) -> str:
    """Return the text with its line feeds and tabs, without escape sequences and all else that is not printable."""
    return "".join(_plain(piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Yield it in pieces of whole lines where lines are that short: what one letter takes meanwhile is many bytes."""
    begin = 0
    while begin < len(text):
        end = begin + PIECE
        if end < len(text):
            end = text.rfind("\n", begin, end) + 1 or end
        yield text[begin:end]
        begin = end


def _plain(text: str) -> str:
    return "".join(char for char in SEQUENCE.sub("", _decoded(text)) if char.isprintable() or char in "\n\t")


def json_text(text: str) -> str:
    """Escape what is not printable in a JSON document, as JSON does; letters of all languages stay readable.

    A byte of a path that is no UTF-8 comes out as the lone surrogate that Python has for it.
    """
    if text.isascii() and "\x7f" not in text:
        return text
    whole = _decoded(text, "surrogateescape")
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in whole)


def _escaped(char: str) -> str:
    """Return the character as one or two of JSON's escapes."""
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _decoded(text: str, errors: str = "replace") -> str:
    """Return text whose letters Python took for single bytes, as it does with paths where the locale is ASCII."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", errors)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text
