"""How help is laid out: as wide as the terminal, and on a narrow one with every explanation on lines of its own."""

from collections.abc import Iterable
from typing import Any

import click


class NarrowFormatter(click.HelpFormatter):
    """Help as wide as the terminal up to 80 columns; click knows none below 50."""

    def __init__(self, **_: Any) -> None:
        import shutil

        columns = max(shutil.get_terminal_size().columns, 20)
        self.narrow = columns < 50
        super().__init__(width=columns if self.narrow else min(columns, 80) - 2)

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        if self.narrow:  # click would begin what follows the verb far to the right
            self.write(click.wrap_text(f"Usage: {prog} {args}", self.width, "", "  ") + "\n")
        else:
            super().write_usage(prog, args, prefix)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        if not self.narrow:
            super().write_dl(rows, col_max, col_spacing)
            return
        outer, inner = " " * self.current_indent, " " * (self.current_indent + 2)
        for term, meaning in rows:  # one below the other
            self.write(click.wrap_text(term, self.width, outer, inner) + "\n")
            self.write(click.wrap_text(meaning, self.width, inner, inner) + "\n")
