"""One value of a TOML file is changed, and the rest stays as the user wrote it."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.config.toml_edit import find_line, format_literal, set_value, unset_value

TEXT = '''\
# my machine
vm = "a"  # the first
"memory"=2048#MiB
image = """
memory = 3
cpus = 1
"""
cpus =   4
'''
INTEGERS = st.integers(-(2**63), 2**63 - 1)  # the only escapes of TOML
VALUES = st.one_of(st.booleans(), INTEGERS, st.text(), st.lists(st.text(), max_size=3))
KEYS = st.sampled_from(["vm", "memory", "cpus", "image"])
COMMENTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])).map("# {}".format)
BLANKS = st.sampled_from(["", " ", "  \t"])


@st.composite
def files(draw: st.DrawFn) -> str:
    """Draw a file as users write it: some settings in some order, with comments and empty lines."""
    lines = []
    for key in draw(st.lists(KEYS, unique=True)):
        lines += draw(st.lists(st.one_of(COMMENTS, BLANKS), max_size=2))
        lines.append(f"{draw(BLANKS)}{key}{draw(BLANKS)}={draw(BLANKS)}{format_literal(draw(VALUES))}{draw(BLANKS)}")
        if draw(st.booleans()):
            lines[-1] += draw(COMMENTS)
    return draw(st.sampled_from(["\n", "\r\n"])).join([*lines, *draw(st.sampled_from([[], [""]]))])


def comments(text: str) -> int:
    return text.count("#")


@pytest.mark.parametrize(("key", "line"), [("vm", 2), ("memory", 3), ("image", 4), ("cpus", 8), ("disk", 0), ("m", 0)])
def test_the_line_of_a_key_is_found(key: str, line: int) -> None:
    assert find_line(TEXT, key) == line


@pytest.mark.parametrize(
    ("text", "line"), [("\n[memory]\na = 1\n", 2), ("[[memory]]", 1), ("memory.a = 1", 1), ("\r\n'memory' = 1", 2)]
)
def test_tables_and_quoted_keys_are_found(text: str, line: int) -> None:
    assert find_line(text, "memory") == line


def test_changing_a_value_leaves_all_other_text_unchanged() -> None:
    assert set_value(TEXT, "memory", 1) == TEXT.replace("=2048#MiB", "=1#MiB")
    assert set_value(TEXT, "vm", "b#b") == TEXT.replace('"a"  # the', '"b#b"  # the')
    assert set_value(TEXT, "image", "x").splitlines()[3:] == ['image = "x"', "cpus =   4"]
    assert set_value(TEXT, "tls", False) == TEXT + "tls = false\n"
    assert set_value("vm = 'a'", "tls", True) == "vm = 'a'\ntls = true\n"
    assert set_value("", "cpus", 0) == "cpus = 0\n"
    assert set_value('"\\u0076m" = "a"\n', "vm", "b") == '"\\u0076m" = "b"\n'


def test_unsetting_a_value_leaves_all_other_text_unchanged() -> None:
    assert unset_value(TEXT, "image") == TEXT.replace('image = """\nmemory = 3\ncpus = 1\n"""\n', "")
    assert unset_value(TEXT, "disk") == TEXT


@given(VALUES)
def test_a_value_is_read_back_as_written(value: object) -> None:
    assert tomllib.loads(f"it = {format_literal(value)}")["it"] == value


@given(files(), KEYS, VALUES)
def test_a_file_has_the_new_value_and_all_previous_ones(text: str, key: str, value: object) -> None:
    before = tomllib.loads(text)
    put = set_value(text, key, value)
    assert tomllib.loads(put) == before | {key: value}
    assert list(tomllib.loads(put)) == list(before | {key: value})
    line = put.split("\n")[find_line(put, key) - 1]
    assert line.strip().startswith(key)
    again = unset_value(put, key)
    assert again.rstrip("\n") == unset_value(text, key).rstrip("\n")
    assert tomllib.loads(again) == {name: value for name, value in before.items() if name != key}
    if key not in before:
        assert unset_value(text, key) == text
        assert comments(put) == comments(text) + str(value).count("#")
