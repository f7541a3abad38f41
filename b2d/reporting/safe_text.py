"""Untrusted text, made safe for a terminal.

A container's name, a server's answer or a guest's console may contain escape sequences, line breaks that forge a row,
or characters that change the direction of the text after them. All code that prints such text passes it through here.
"""

import re
from collections.abc import Iterator

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LINE_LIMIT = 4000  # characters of a line
PIECE = 1 << 18  # characters of a longer text that are processed at once
CELL_LIMIT = 256  # characters of a cell of a table
BREAKS = re.compile(r"[^\S ]+")  # line breaks, tabs and the like, but not spaces: users paste hints
ENDS = re.compile(r"\A[^\S ]+|[^\S ]+\Z")
SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")  # ECMA-48


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Return at most `limit` characters in one line, with U+FFFD for characters that are not printable."""
    line = BREAKS.sub(" ", ENDS.sub("", _decoded(text[:limit])))
    shown = line if line.isprintable() else "".join(char if char.isprintable() else REPLACEMENT for char in line)
    return shown if len(text) <= limit else shown[: limit - 1] + "…"


def many_lines(text: str) -> str:
    """Return the text with line feeds and tabs, without escape sequences and other unprintable characters."""
    return "".join(_plain(piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Yield the text in pieces, of whole lines if possible: processing takes many bytes for each character."""
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
    """Escape unprintable characters in a JSON document as JSON does; letters of all languages stay readable.

    A byte of a path that is not UTF-8 becomes the lone surrogate that Python uses for it.
    """
    if text.isascii() and "\x7f" not in text:
        return text
    whole = _decoded(text, "surrogateescape")
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in whole)


def _escaped(char: str) -> str:
    """Return a character as one or two JSON escapes."""
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _decoded(text: str, errors: str = "replace") -> str:
    """Decode text whose letters Python read as single bytes, as it does with paths where the locale is ASCII."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", errors)
    except UnicodeEncodeError:  # a surrogate that does not stand for a byte
        return text
