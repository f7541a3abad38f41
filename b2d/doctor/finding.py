"""The findings of an examination: a verdict, a message, and a fix that can be typed."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from b2d.reporting.safe_text import one_line


class Verdict(StrEnum):
    """The severity of a finding."""

    GOOD = "good"
    DOUBTFUL = "doubtful"  # b2d works, but not at its best, or a machine does not
    BAD = "bad"  # b2d cannot work


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, and what `--fix` would do about it."""

    name: str
    verdict: Verdict
    message: str
    fix: str = ""  # what the user can type
    needs: tuple[str, ...] = ()  # programs to install
    open_files: tuple[Path, ...] = ()  # files whose permissions are to be tightened
    machine: str = ""  # the machine's name, for a check of one
    left_files: tuple[Path, ...] = ()  # abandoned files to remove
    left_images: tuple[str, ...] = ()  # sha256 of images to remove
    left_env: tuple[str, ...] = ()  # machines that are off, but to which shells are still directed

    @property
    def line(self) -> str:
        """The finding for people, with the fix below it."""
        prefix = f"{self.machine} " if self.machine else ""
        help_line = f"\n{'':10}try: {one_line(self.fix)}" if self.fix else ""
        return f"{self.verdict:8}  {one_line(f'{prefix}{self.name}: {self.message}')}{help_line}"


def ok(name: str, message: str, machine: str = "") -> Finding:
    """Create a finding without a problem."""
    return Finding(name, Verdict.GOOD, message, machine=machine)


def warning(name: str, message: str, fix: str = "", machine: str = "") -> Finding:
    """Create a finding about a problem that does not stop b2d."""
    return Finding(name, Verdict.DOUBTFUL, message, fix, machine=machine)
