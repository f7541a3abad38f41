"""The linters, as a step of their own: they take longer than all unit tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("importlinter.cli", "lint-imports"),
    ],
    ids=["ruff", "format", "types", "layers"],
)
def test_the_linters_report_nothing(command: tuple[str, ...]) -> None:
    if command[0].startswith("importlinter"):
        arguments = [str(Path(sys.executable).with_name("lint-imports"))]
    else:
        arguments = [sys.executable, "-m", *command]
    completed = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_type_checkers_know_the_types(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("from b2d import Machine\nwith Machine('ci', memory=1000) as m:\n    reveal_type(m.ip())\n")
    completed = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Revealed type is "str"' in completed.stdout and "Success" in completed.stdout, completed.stdout
