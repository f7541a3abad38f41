"""Messages on stderr are readable on a terminal of any width and in a log file."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from b2d.reporting.base import Reporter
from b2d.reporting.safe_text import one_line
from b2d.reporting.terminal import PlainReporter, QuietReporter, RichReporter, choose_reporter

SCENE = """
import os, sys
from b2d.reporting.terminal import choose_reporter
reporter = choose_reporter(sys.stderr, False, os.environ)
with reporter.step('kernel'):
    pass
with reporter.progress('download a-file-with-a-rather-long-name-that-goes-on.iso', 1 << 20) as bar:
    for _ in range(16):
        bar.advance(1 << 16)
    print('{"the": "answer"}', flush=True)
    with reporter.step('within'):
        reporter.note('meanwhile')
try:
    with reporter.step('docker'):
        raise ValueError
except ValueError:
    pass
reporter.note('[bold]no markup :smile:')
reporter.warn('careful\\x1b[2J')
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(columns: int, tmp_path: Path, **environment: str) -> tuple[str, str]:
    """Return the output of SCENE on a real pseudo-terminal (stderr) and its stdout, a file."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "TERM")}
    with (tmp_path / "stdout").open("wb") as stdout:
        child = subprocess.Popen(
            [sys.executable, "-c", SCENE],
            stderr=follower,
            stdout=stdout,
            stdin=follower,
            env={**clean, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )
    os.close(follower)
    output = b""
    while True:
        try:
            more = os.read(leader, 65536)
        except OSError:  # Linux reports the closed peer this way
            break
        if not more:
            break
        output += more
    os.close(leader)
    assert child.wait() == 0
    return output.decode(), (tmp_path / "stdout").read_text()


def shown(output: str) -> list[str]:
    """Return the lines that remain visible, without erased ones."""
    lines = []
    for line in output.replace("\r\n", "\n").split("\n"):
        rest = re.split(r"\x1b\[2K", line)[-1]
        text = ESCAPES.sub("", rest).rpartition("\r")[2].rstrip()
        if text:
            lines.append(text)
    return lines


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_terminal_of_any_width_has_one_line_per_message(columns: int, tmp_path: Path) -> None:
    output, _ = on_a_terminal(columns, tmp_path)
    text = "\n".join(shown(output))
    assert re.search(r"✓ kernel  \d+\.\d s", text)
    assert re.search(r"✓ download a-file-with-a-rather-long-name-that-goes-on\.iso  \d+\.\d s", text)
    assert re.search(r"✓ within  \d+\.\d s", text)
    assert re.search(r"✗ docker  \d+\.\d s", text)
    assert "• meanwhile" in text
    assert "• [bold]no markup :smile:" in text
    assert "! careful�[2J" in text


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_progress_fits_on_one_line(columns: int, tmp_path: Path) -> None:
    output, _ = on_a_terminal(columns, tmp_path)
    frames = [ESCAPES.sub("", part).rstrip() for part in re.split(r"[\r\n]+|\x1b\[2K", output)]
    moving = [frame for frame in frames if re.search(r"\d+:\d\d:\d\d$", frame)]
    assert moving
    assert all(len(frame) <= columns for frame in moving)


def test_stdout_contains_only_the_answer(tmp_path: Path) -> None:
    output, answer = on_a_terminal(80, tmp_path)
    assert answer == '{"the": "answer"}\n'
    assert "answer" not in output


def test_a_foreign_control_character_never_reaches_the_terminal(tmp_path: Path) -> None:
    output, _ = on_a_terminal(80, tmp_path)
    assert "\x1b[2J" not in output


def test_no_color_disables_colours(tmp_path: Path) -> None:
    coloured, _ = on_a_terminal(80, tmp_path)
    plain, _ = on_a_terminal(80, tmp_path, NO_COLOR="1")
    colours = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    assert colours.search(coloured)
    assert not colours.search(plain)


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    output, _ = on_a_terminal(80, tmp_path, TERM="dumb")
    assert "\x1b" not in output
    assert re.search(r"^kernel  \d+\.\d s\r$", output, re.M)


def test_an_ascii_terminal_gets_ascii(tmp_path: Path) -> None:
    output, _ = on_a_terminal(80, tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert output.isascii()
    assert re.search(r"\+ kernel", "\n".join(shown(output)))


def test_a_pipe_gets_one_plain_line_per_message() -> None:
    completed = subprocess.run([sys.executable, "-c", SCENE], capture_output=True, text=True, check=True)
    lines = completed.stderr.splitlines()
    assert "\x1b" not in completed.stderr and "\r" not in completed.stderr
    assert [re.sub(r"\d+\.\d s$", "T", line) for line in lines] == [
        "kernel  T",
        "meanwhile",
        "within  T",
        "download a-file-with-a-rather-long-name-that-goes-on.iso  T",
        "docker  failed after T",
        "[bold]no markup :smile:",
        "warning: careful�[2J",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_closed_stderr_does_not_stop_the_work(terminal: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with io.TextIOWrapper(os.fdopen(writing, "wb", buffering=0), write_through=True) as stream:
        reporter: Reporter = RichReporter(stream) if terminal else PlainReporter(stream)
        with reporter.step("kernel"):
            reporter.note("one")
        reporter.warn("two")


def test_the_duration_is_that_of_the_step() -> None:
    stream, times = io.StringIO(), iter([10.0, 12.34])
    with PlainReporter(stream, clock=lambda: next(times)).step("docker"):
        pass
    assert stream.getvalue() == "docker  2.3 s\n"


def test_quiet_prints_warnings_only() -> None:
    stream = io.StringIO()
    reporter = choose_reporter(stream, True, {})
    with reporter.step("kernel"), reporter.progress("download", 10) as bar:
        bar.advance(3)
    reporter.note("by the way")
    assert stream.getvalue() == ""
    reporter.warn("the disk is full")
    assert stream.getvalue() == "warning: the disk is full\n"


def test_a_stream_that_is_not_a_terminal_gets_plain_lines() -> None:
    assert isinstance(choose_reporter(io.StringIO(), False, {"TERM": "xterm"}), PlainReporter)
    assert isinstance(choose_reporter(io.StringIO(), True, {}), QuietReporter)


def test_foreign_text_becomes_one_line_without_control_characters() -> None:
    assert one_line("a\nb\tc\x1b]0;title\x07") == "a b c�]0;title�"


def test_plain_output_imports_no_slow_library() -> None:
    code = "import sys, b2d.reporting.terminal; print('rich' in sys.modules)"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout == "False\n"
