"""Tables for people."""

from collections.abc import Sequence

from b2d.reporting.safe_text import CELL_LIMIT, one_line


def render_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the rows in columns as wide as their widest cells; the first row is the header.

    Each cell is one line of at most CELL_LIMIT characters, as its content may be untrusted.
    """
    shown = [tuple(one_line(cell, CELL_LIMIT) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )
