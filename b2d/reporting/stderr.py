"""What a command says on stderr outside of its reporter."""

import sys
from contextlib import suppress
from textwrap import indent

from b2d.reporting.safe_text import many_lines, one_line

MARGIN = "     "


def print_error(text: str) -> None:
    """Say something in one line. That nobody can hear it changes nothing."""
    _write(one_line(text))


def print_long_error(text: str) -> None:
    """Say what another program said in its lines, which are set off so that none passes for b2d's."""
    _write(indent(many_lines(text), MARGIN))


def _write(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
