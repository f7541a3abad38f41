"""The layout of help: as wide as the terminal, and on a narrow one with each explanation on lines of its own."""

from collections.abc import Iterable
from typing import Any

import click


class NarrowFormatter(click.HelpFormatter):
    """A help formatter as wide as the terminal up to 80 columns; click's has a minimum of 50."""

    def __init__(self, **_: Any) -> None:
        """Take the width from the terminal."""
        import shutil

        columns = max(shutil.get_terminal_size().columns, 20)
        self.narrow = columns < 50
        super().__init__(width=columns if self.narrow else min(columns, 80) - 2)

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line; on a narrow terminal its continuation is indented by two, not to the verb's end."""
        if self.narrow:
            self.write(click.wrap_text(f"Usage: {prog} {args}", self.width, "", "  ") + "\n")
        else:
            super().write_usage(prog, args, prefix)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms and their meanings in two columns; on a narrow terminal one below the other."""
        if not self.narrow:
            super().write_dl(rows, col_max, col_spacing)
            return
        outer, inner = " " * self.current_indent, " " * (self.current_indent + 2)
        for term, meaning in rows:
            self.write(click.wrap_text(term, self.width, outer, inner) + "\n")
            self.write(click.wrap_text(meaning, self.width, inner, inner) + "\n")
