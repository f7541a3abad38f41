"""Fixtures for hostile text: a home, and commands run in this process with their output checked."""

import unicodedata
from pathlib import Path

import pytest

from b2d.cli import main
from b2d.paths import Home
from tests.security.hostile import OBEYED, Show


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "home")
    home.machines.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("B2D_HOME", str(home.root))
    monkeypatch.setenv("B2D_DRIVER", "qemu")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    return home


@pytest.fixture
def show(home: Home, capsys: pytest.CaptureFixture[str]) -> Show:
    """Return a function that runs a verb in this process and checks its output for control characters.

    It returns the exit code, stdout and stderr.
    """

    def shown(*arguments: str) -> tuple[int, str, str]:
        code = main._run(list(arguments))
        out, err = capsys.readouterr()
        for text in (out, err):
            obeyed = {char for char in text if unicodedata.category(char) in OBEYED} - {"\n", "\t"}
            forged = any(line.startswith("b2d: done") for line in text.splitlines())
            assert (obeyed, forged) == (set(), False)
        return code, out, err

    return shown
