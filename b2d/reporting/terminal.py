"""The voice on stderr: rich for a terminal, plain lines elsewhere, next to nothing when quiet."""

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

NARROW = 60  # columns; a bar with all its figures needs more
SPINNER_PER_S = 8


def choose_reporter(stderr: TextIO, quiet: bool, environ: Mapping[str, str]) -> "Reporter":
    """Quiet when asked for; rich only on a terminal that can move its cursor and may be coloured or not."""
    if quiet:
        return QuietReporter(stderr)
    if not stderr.isatty() or environ.get("TERM", "") in ("dumb", "unknown"):
        return PlainReporter(stderr)
    return RichReporter(stderr, colour=not environ.get("NO_COLOR"))


class PlainReporter:
    """One plain line for each thing, when it is over; no control characters: a log file stays readable."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        text, begin = one_line(text), self._clock()
        try:
            yield
        except BaseException:
            self._line(f"{text}  failed after {self._clock() - begin:.1f} s")
            raise
        self._line(f"{text}  {self._clock() - begin:.1f} s")

    @contextmanager
    def progress(self, text: str, total: int) -> "Iterator[Progress]":  # noqa: ARG002  the door's signature
        with self.step(text):
            yield _NoProgress()

    def note(self, text: str) -> None:
        self._line(one_line(text))

    def warn(self, text: str) -> None:
        self._line(f"warning: {one_line(text)}")

    def _line(self, text: str) -> None:
        _write(self._stream, text + "\n")


class QuietReporter:
    """Only what somebody should act on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def step(self, text: str) -> Iterator[None]:  # noqa: ARG002  the door's signature
        yield

    @contextmanager
    def progress(self, text: str, total: int) -> "Iterator[Progress]":  # noqa: ARG002  the door's signature
        yield _NoProgress()

    def note(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        _write(self._stream, f"warning: {one_line(text)}\n")


class RichReporter:
    """A spinner with its seconds for each step, a bar for what has a size; each leaves one line behind.

    Within a step or a bar others may begin: they are shown one below the other.
    """

    def __init__(self, stream: TextIO, *, colour: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._colour = colour
        self._clock = clock
        self._bars: Bars | None = None  # while something is under way
        self._under_way = 0
        self._made: Console | None = None

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        with self._shown(one_line(text), None):
            yield

    @contextmanager
    def progress(self, text: str, total: int) -> "Iterator[Progress]":
        with self._shown(one_line(text), total) as (bars, task):
            yield _Bar(bars, task)

    def note(self, text: str) -> None:
        self._say("•", "cyan", one_line(text))

    def warn(self, text: str) -> None:
        self._say("!", "yellow", one_line(text))

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
            self._say(sign, style, f"{text}  {self._clock() - begin:.1f} s")
            self._end()

    def _begin(self) -> "Bars":
        if self._bars is None:
            self._bars = _bars(self._console)
            self._bars.start()
        self._under_way += 1
        return self._bars

    def _end(self) -> None:
        self._under_way -= 1
        if self._under_way == 0 and self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _say(self, sign: str, style: str, text: str) -> None:
        from rich.text import Text

        if not self._utf8():
            sign = {"✓": "+", "✗": "x", "•": "-"}.get(sign, sign)
        line = Text.assemble((sign, style), " ", _encodable(text, self._stream))
        self._console.print(line, soft_wrap=True)

    def _utf8(self) -> bool:
        return (self._stream.encoding or "").lower().replace("-", "") == "utf8"

    @property
    def _console(self) -> "Console":
        if self._made is None:
            from rich.console import Console

            class Forbearing(Console):
                def on_broken_pipe(self) -> None:
                    """Nobody listens any more: rich would end the program, but what is under way goes on."""
                    self.quiet = True

            self._made = Forbearing(
                file=self._stream, no_color=not self._colour, highlight=False, emoji=False, markup=False
            )
        return self._made


class _NoProgress:
    """A bar that nobody sees."""

    def advance(self, amount: int) -> None:
        """Nothing."""


class _Bar:
    def __init__(self, bars: "Bars", task: "TaskID") -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: int) -> None:
        self._bars.update(self._task, advance=amount)


def _bars(console: "Console") -> "Bars":
    """The display of what is under way; narrow terminals get the figures that fit."""
    from rich import progress
    from rich.table import Column
    from rich.text import Text

    class WhereSized(progress.ProgressColumn):
        """Another column, for what has a size."""

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
            WhereSized(progress.BarColumn(bar_width=20)),
            WhereSized(progress.DownloadColumn(binary_units=True)),
        ]
        columns += [WhereSized(progress.TransferSpeedColumn())]
    else:
        columns += [WhereSized(progress.TextColumn("{task.percentage:>3.0f}%", markup=False))]
    columns += [progress.TimeElapsedColumn()]
    return progress.Progress(
        *columns,
        console=console,
        transient=True,
        refresh_per_second=SPINNER_PER_S,
        redirect_stdout=False,  # else what is printed on stdout, an API, would come out on stderr
        redirect_stderr=False,
    )


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def _write(stream: TextIO, text: str) -> None:
    with suppress(OSError):  # nobody listens any more, or the disk is full; what is under way is not to suffer
        stream.write(_encodable(text, stream))
        stream.flush()
