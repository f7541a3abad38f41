"""Foreign text in a form that is safe for terminals."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.reporting.safe_text import CELL_LIMIT, LINE_LIMIT, json_text, many_lines, one_line

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidi), surrogates, line and paragraph separators


def kinds(text: str) -> set[str]:
    return {unicodedata.category(char) for char in text}


@given(st.text())
def test_one_line_contains_no_control_characters(text: str) -> None:
    assert not kinds(one_line(text)) & OBEYED
    assert len(one_line(text, 10)) <= 10


@given(st.text())
def test_line_feeds_and_tabs_are_the_only_control_characters_of_many_lines(text: str) -> None:
    assert not kinds(many_lines(text).replace("\n", "").replace("\t", "")) & OBEYED


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("mv 'a  b' c", "mv 'a  b' c"),  # a hint is pasted
        ("a\r\nb\tc", "a b c"),
        ("\x1b[2Jx", "�[2Jx"),
        ("\x9b31mx", "�31mx"),
        ("a\u202egpj.exe", "a�gpj.exe"),
        ("a\u2066b\u2069", "a�b�"),
        ("a\u2028b\x85c\x0bd", "a b c d"),
        ("\udcc3\udcbc \udcff", "ü �"),  # where Python decodes paths as ASCII
        ("\ud800", "�"),
        ("grüße 漢字 🐳", "grüße 漢字 🐳"),
        ("\n", ""),
    ],
)
def test_readable_text_of_a_line_is_preserved(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert one_line("x" * 100_000) == "x" * (LINE_LIMIT - 1) + "…"
    assert one_line("x" * CELL_LIMIT, CELL_LIMIT) == "x" * CELL_LIMIT


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_preserved_without_control_characters(document: object) -> None:
    text = json_text(json.dumps(document, ensure_ascii=False, indent=1))
    assert json.loads(text) == document
    assert not kinds(text.replace("\n", "")) & OBEYED


def test_json_preserves_letters_and_escapes_other_characters() -> None:
    assert json_text('"grüße \x7f\x9b\u202e\U000e0001\udcff"') == '"grüße \\u007f\\u009b\\u202e\\udb40\\udc01\\udcff"'
    assert json_text('"\udcc3\udcbc \udcff"') == '"ü \\udcff"'
