"""What an examination finds: each thing with how bad it is, and what helps in words that can be typed."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from b2d.reporting.safe_text import one_line


class Verdict(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"  # it works, but worse than it could, or one machine does not
    BAD = "bad"  # it cannot work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what `--fix` would do about it."""

    name: str
    verdict: Verdict
    message: str
    fix: str = ""  # what a person types
    needs: tuple[str, ...] = ()  # what is to be installed
    open_files: tuple[Path, ...] = ()  # what is to be closed to others
    machine: str = ""  # of which machine, where it is of one
    left_files: tuple[Path, ...] = ()  # what is to be removed, as nobody comes back for it
    left_images: tuple[str, ...] = ()  # sha256 of the images that are to be removed
    left_env: tuple[str, ...] = ()  # the machines that shells are still pointed at, although they do not run

    @property
    def line(self) -> str:
        """It for eyes, with what helps below it."""
        of = f"{self.machine} " if self.machine else ""
        help_line = f"\n{'':10}try: {one_line(self.fix)}" if self.fix else ""
        return f"{self.verdict:8}  {one_line(f'{of}{self.name}: {self.message}')}{help_line}"


def ok(name: str, message: str, machine: str = "") -> Finding:
    """Nothing is to be done."""
    return Finding(name, Verdict.GOOD, message, machine=machine)


def warning(name: str, message: str, fix: str = "", machine: str = "") -> Finding:
    """Something could be better."""
    return Finding(name, Verdict.DOUBTFUL, message, fix, machine=machine)
