"""The commands that README and docs/ show: lines of their code blocks, without the comments beside them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.paths import ROOT

PROGRAMS = ("b2d", "boot2docker", ".venv/bin/b2d")
BESIDE = re.compile(r"\s{2,}(?=\S).*$")  # the comment beside a command
SEPARATORS = re.compile(r"&&|\|\||[|;]|\$\(|\)\"?")
# a code block of another language
NO_SHELL = re.compile(r"^\s*(?:\.\. |:|from |import |def |\$B2D_HOME|[├└│])")


@dataclass(frozen=True, slots=True)
class ShownCommand:
    """A b2d command on a page."""

    page: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


def lines(page: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page's code blocks, indented or fenced, with their numbers."""
    is_fenced = is_directive = False
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
            is_directive = "{" in line
        elif not is_directive and (is_fenced or line.startswith("    ")) and not NO_SHELL.match(line):
            yield number, line.strip()


def blocks(page: str) -> Iterator[list[str]]:
    """Yield the code blocks of a page, each as its commands in order, without the comments beside them."""
    block: list[str] = []
    last = 0
    for number, line in lines(page):
        if block and number > last + 1:
            yield block
            block = []
        block.append(BESIDE.sub("", line))
        last = number
    if block:
        yield block


def commands(page: str) -> Iterator[ShownCommand]:
    """Yield the b2d commands that a page shows, also those within other commands."""
    for number, line in lines(page):
        for part in SEPARATORS.split(BESIDE.sub("", line)):
            try:
                words = shlex.split(part.strip().removesuffix('"').removeprefix('"'), comments=True)
            except ValueError:  # the rest of a split quotation
                continue
            for first, word in enumerate(words):
                if word in PROGRAMS and "=" not in "".join(words[:first]):
                    yield ShownCommand(page, number, tuple(words[first:]))
                    break


def pages() -> list[str]:
    """Return README and all pages below docs/."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in paths if "_build" not in path.parts]
