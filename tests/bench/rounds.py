"""Figures measured in turn, round by round, so that a host whose speed drifts does not distort the ratios."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

LIMIT_S = 1800.0


@dataclass
class Figure:
    """One row: its values, one for each round, and the row that it is compared with."""

    name: str
    against: str = ""  # the name of the row to compare with, or ""
    limit: float | None = None  # the upper limit of the ratio to that row, or of the value without one
    unit: str = "s"
    values: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return median(self.values)


@dataclass
class Table:
    """Rows by name, in the order of their presentation."""

    rows: dict[str, Figure]

    def add(self, name: str, value: float) -> None:
        """Add a value to a row."""
        self.rows[name].values.append(value)

    def ratio(self, row: Figure) -> float | None:
        """Return the median of the ratios per round; None for a row that is compared with nothing."""
        if not row.against:
            return None
        base = self.rows[row.against].values
        return median(own / other for own, other in zip(row.values, base, strict=True))


def table(*rows: Figure) -> Table:
    return Table({row.name: row for row in rows})


def seconds(command: Sequence[str], environment: Mapping[str, str], expected: int = 0) -> float:
    """Run the command and return its duration in seconds. Raises AssertionError on an unexpected exit code."""
    begin = time.monotonic()
    completed = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False
    )
    taken = time.monotonic() - begin
    assert completed.returncode == expected, f"{command} ended with {completed.returncode}: {completed.stderr.decode()}"
    return taken


def plain_environment(**more: str) -> dict[str, str]:
    """Return the environment of the measured processes, without what makes Python slower or faster than a user's."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "LANG": "C.UTF-8", "SHELL": "/bin/sh"} | more
