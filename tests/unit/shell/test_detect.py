"""Detection of the user's shell: the one that runs b2d, through intermediate processes, not the login shell."""

import os
from pathlib import Path

import pytest

from b2d.shell.detect import detect

LOGIN = {"SHELL": "/usr/bin/fish"}


def line_of(folder: Path, *programs: str) -> str:
    """Create a /proc where this process's parents are these programs, the nearest first; "!" hides a name."""
    pids = [os.getppid(), *range(7001, 7001 + len(programs))]
    for pid, parent, program in zip(pids, pids[1:], programs, strict=False):
        (folder / str(pid)).mkdir()
        comm = program.rpartition("/")[2]
        (folder / str(pid) / "stat").write_text(f"{pid} ({comm}) S {parent} 1 1")
        if not program.startswith("!"):
            (folder / str(pid) / "exe").symlink_to(program)
    return str(folder)


@pytest.mark.parametrize(
    ("programs", "family"),
    [
        (["/usr/bin/dash"], "sh"),
        (["/opt/zsh/bin/zsh-5.9"], "sh"),
        (["/usr/bin/ksh93"], "sh"),
        (["/usr/bin/bash (deleted)"], "sh"),
        (["/usr/bin/tcsh"], "csh"),
        (["/opt/microsoft/powershell/7/pwsh"], "powershell"),
        (["/usr/bin/timeout", "/root/.cargo/bin/nu"], "nu"),
        (["!/usr/bin/sudo", "!/usr/bin/sudo", "/usr/bin/tcsh"], "csh"),
        (["!/usr/bin/tcsh"], "csh"),
        (["/usr/bin/make) x (y", "/usr/bin/tcsh"], "csh"),
        (["/usr/bin/odd"] * 3, "fish"),
        (["/usr/bin/odd"] * 9 + ["/usr/bin/tcsh"], "fish"),
        ([], "fish"),
    ],
)
def test_the_nearest_shell_is_detected(tmp_path: Path, programs: list[str], family: str) -> None:
    assert detect(LOGIN, processes=line_of(tmp_path, *programs)) == family


@pytest.mark.parametrize(
    ("environ", "family"),
    [
        ({"SHELL": "C:\\Program Files\\Git\\usr\\bin\\bash.exe"}, "sh"),
        ({"PROMPT": "$P$G", "PSMODULEPATH": "C:\\a;C:\\b"}, "cmd"),
        ({"PROMPT": "$P$G", "PSMODULEPATH": "C:\\me;C:\\a;C:\\b"}, "powershell"),
        ({}, "powershell"),
    ],
)
def test_on_windows_the_shell_is_detected_from_the_environment(
    tmp_path: Path, environ: dict[str, str], family: str
) -> None:
    assert detect(environ, windows=True, processes=str(tmp_path)) == family


def test_an_unknown_shell_gets_sh_syntax(tmp_path: Path) -> None:
    assert detect({"SHELL": "/bin/odd"}, processes=str(tmp_path)) == "sh"
