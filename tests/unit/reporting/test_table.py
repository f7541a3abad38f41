"""A table for readers: as wide as its content, with one line for each row."""

from b2d.reporting.safe_text import CELL_LIMIT
from b2d.reporting.table import render_table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    shown = render_table([("NAME", "SIZE"), ("a long name", "1"), ("b", "22")])
    assert shown.split("\n") == ["NAME         SIZE", "a long name  1", "b            22"]


def test_a_cell_is_one_line_with_a_length_limit() -> None:
    lines = render_table([("NAME", "STATE"), ("a\nb  open", "x"), ("y" * 100_000, "z")]).split("\n")
    assert len(lines) == 3 and lines[1].startswith("a b  open")
    assert len(lines[2]) == CELL_LIMIT + len("  z")
