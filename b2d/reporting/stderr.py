"""Output on stderr outside of the reporter."""

import sys
from contextlib import suppress

from b2d.reporting.safe_text import many_lines, one_line

MARGIN = "     "


def print_error(text: str) -> None:
    """Print one line on stderr; a closed stderr is ignored."""
    _write(one_line(text))


def print_long_error(text: str) -> None:
    """Print another program's output, indented so that no line of it looks like one of b2d's."""
    from textwrap import indent

    _write(indent(many_lines(text), MARGIN))


def _write(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
