"""Reporters on stderr: rich for a terminal, plain lines elsewhere, warnings only when quiet."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from b2d.reporting.safe_text import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from b2d.reporting.base import Progress, Reporter

NARROW = 60  # columns; a bar with all its numbers needs more
SPINNER_PER_S = 8


def choose_reporter(stderr: TextIO, quiet: bool, environ: Mapping[str, str]) -> "Reporter":
    """Return the reporter for a stream: rich only on a terminal that can move its cursor; NO_COLOR disables colour."""
    if quiet:
        return QuietReporter(stderr)
    if not stderr.isatty() or environ.get("TERM", "") in ("dumb", "unknown"):
        return PlainReporter(stderr)
    return RichReporter(stderr, colour=not environ.get("NO_COLOR"))


class PlainReporter:
    """A reporter of one plain line for each finished step, without control characters, to keep log files readable."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream`; `clock` returns seconds."""
        self._stream = stream
        self._clock = clock

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print the time that the step took, or its failure."""
        text, begin = one_line(text), self._clock()
        try:
            yield
        except BaseException:
            self._line(f"{text}  failed after {self._clock() - begin:.1f} s")
            raise
        self._line(f"{text}  {self._clock() - begin:.1f} s")

    @contextmanager
    def progress(self, text: str, total: int) -> "Iterator[Progress]":  # noqa: ARG002  the protocol's signature
        """Report the step as one without a size."""
        with self.step(text):
            yield _NoProgress()

    def note(self, text: str) -> None:
        """Print the line."""
        self._line(one_line(text))

    def warn(self, text: str) -> None:
        """Print the line, marked as a warning."""
        self._line(f"warning: {one_line(text)}")

    def _line(self, text: str) -> None:
        _write(self._stream, text + "\n")


class QuietReporter:
    """A reporter of warnings only."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    @contextmanager
    def step(self, text: str) -> Iterator[None]:  # noqa: ARG002  the protocol's signature
        """Print nothing."""
        yield

    @contextmanager
    def progress(self, text: str, total: int) -> "Iterator[Progress]":  # noqa: ARG002  the protocol's signature
        """Print nothing."""
        yield _NoProgress()

    def note(self, text: str) -> None:
        """Print nothing."""

    def warn(self, text: str) -> None:
        """Print the line, marked as a warning."""
        _write(self._stream, f"warning: {one_line(text)}\n")


class RichReporter:
    """A reporter with a spinner for each step and a bar for each step with a size; both leave one line when they end.

    Steps may be nested: they are shown one below the other.
    """

    def __init__(self, stream: TextIO, *, colour: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream`; `clock` returns seconds."""
        self._stream = stream
        self._colour = colour
        self._clock = clock
        self._bars: Bars | None = None  # while a step is active
        self._active = 0
        self._cached_console: Console | None = None

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a spinner, then the time that the step took, or its failure."""
        with self._shown(one_line(text), None):
            yield

    @contextmanager
    def progress(self, text: str, total: int) -> "Iterator[Progress]":
        """Show a bar, then the time that the step took, or its failure."""
        with self._shown(one_line(text), total) as (bars, task):
            yield _Bar(bars, task)

    def note(self, text: str) -> None:
        """Print the line with a bullet."""
        self._print_line("•", "cyan", one_line(text))

    def warn(self, text: str) -> None:
        """Print the line with an exclamation mark."""
        self._print_line("!", "yellow", one_line(text))

    @contextmanager
    def _shown(self, text: str, total: int | None) -> "Iterator[tuple[Bars, TaskID]]":
        bars = self._begin()
        task = bars.add_task(text, total=total)
        begin = self._clock()
        sign, style = "✗", "red"
        try:
            yield bars, task
            sign, style = "✓", "green"
        finally:
            bars.remove_task(task)
            self._print_line(sign, style, f"{text}  {self._clock() - begin:.1f} s")
            self._end()

    def _begin(self) -> "Bars":
        if self._bars is None:
            self._bars = _create_bars(self._console)
            self._bars.start()
        self._active += 1
        return self._bars

    def _end(self) -> None:
        self._active -= 1
        if self._active == 0 and self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _print_line(self, sign: str, style: str, text: str) -> None:
        from rich.text import Text

        if not self._utf8():
            sign = {"✓": "+", "✗": "x", "•": "-"}.get(sign, sign)
        line = Text.assemble((sign, style), " ", _encodable(text, self._stream))
        self._console.print(line, soft_wrap=True)

    def _utf8(self) -> bool:
        return (self._stream.encoding or "").lower().replace("-", "") == "utf8"

    @property
    def _console(self) -> "Console":
        if self._cached_console is None:
            from rich.console import Console

            class TolerantConsole(Console):
                def on_broken_pipe(self) -> None:
                    """Stop printing: rich would end the program, but the work must continue."""
                    self.quiet = True

            self._cached_console = TolerantConsole(
                file=self._stream, no_color=not self._colour, highlight=False, emoji=False, markup=False
            )
        return self._cached_console


class _NoProgress:
    """A progress bar without a display."""

    def advance(self, amount: int) -> None:
        """Do nothing."""


class _Bar:
    def __init__(self, bars: "Bars", task: "TaskID") -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: int) -> None:
        self._bars.update(self._task, advance=amount)


def _create_bars(console: "Console") -> "Bars":
    """Create the display of active steps; narrow terminals get the numbers that fit."""
    from rich import progress
    from rich.table import Column
    from rich.text import Text

    class SizedOnly(progress.ProgressColumn):
        """A column that is empty for steps without a size."""

        def __init__(self, inner: progress.ProgressColumn) -> None:
            self._inner = inner
            super().__init__()

        def render(self, task: progress.Task) -> object:  # type: ignore[override]
            return self._inner(task) if task.total is not None else Text("")

    columns: list[progress.ProgressColumn] = [
        progress.SpinnerColumn("dots" if not console.legacy_windows and console.encoding == "utf-8" else "line"),
        progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    ]
    if console.width >= NARROW:
        columns += [
            SizedOnly(progress.BarColumn(bar_width=20)),
            SizedOnly(progress.DownloadColumn(binary_units=True)),
        ]
        columns += [SizedOnly(progress.TransferSpeedColumn())]
    else:
        columns += [SizedOnly(progress.TextColumn("{task.percentage:>3.0f}%", markup=False))]
    columns += [progress.TimeElapsedColumn()]
    return progress.Progress(
        *columns,
        console=console,
        transient=True,
        refresh_per_second=SPINNER_PER_S,
        redirect_stdout=False,  # otherwise rich prints on stderr what the program prints on stdout, which is an API
        redirect_stderr=False,
    )


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def _write(stream: TextIO, text: str) -> None:
    with suppress(OSError):  # the reader is gone or the disk is full, which must not fail the work
        stream.write(_encodable(text, stream))
        stream.flush()
