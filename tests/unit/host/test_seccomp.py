"""The system call filter refuses modes that raise privileges, and nothing else."""

import ctypes
import errno
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.host import seccomp

pytestmark = pytest.mark.needs("seccomp")

ATTEMPT = """
import os, sys
try:
    {}
except OSError as error:
    sys.exit(error.errno)
"""


def confined(folder: Path, line: str) -> int:
    """Run a line of Python under the filter, in that folder; return its errno, 0 for none."""
    command = [sys.executable, "-c", ATTEMPT.format(line)]
    return seccomp.call_confined(lambda: subprocess.run(command, cwd=folder, check=False).returncode)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "file").write_text("")
    (tmp_path / "sub").mkdir()
    yield tmp_path
    assert [path for path in tmp_path.rglob("*") if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)] == []


@pytest.mark.parametrize(
    "line",
    [
        "os.chmod('file', 0o4755)",
        "os.chmod('file', 0o2755)",
        "os.chmod('sub', 0o2775)",
        "os.fchmod(os.open('file', os.O_RDONLY), 0o4755)",
        "os.chmod('file', 0o4755, dir_fd=os.open('.', os.O_RDONLY))",
        "os.open('new', os.O_CREAT | os.O_WRONLY, 0o4755)",
        "os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o6755)",
        "os.mkdir('folder', 0o2775)",
        "os.mknod('node', 0o104755)",
        "os.mknod('device', 0o020666, os.makedev(1, 3))",
        "os.mknod('device', 0o060666, os.makedev(7, 0))",
    ],
)
def test_modes_that_raise_privileges_and_devices_are_refused(folder: Path, line: str) -> None:
    assert confined(folder, line) == errno.EPERM


@pytest.mark.parametrize(
    "line",
    [
        "os.chmod('file', 0o1777)",
        "os.fchmod(os.open('file', os.O_RDONLY), 0o600)",
        "os.chmod('file', 0o700, dir_fd=os.open('.', os.O_RDONLY))",
        "os.open('new', os.O_CREAT | os.O_WRONLY, 0o755)",
        "os.open('file', os.O_RDONLY, 0o4755)",  # without O_CREAT the mode has no effect
        "os.open('.', os.O_RDONLY | os.O_DIRECTORY, 0o4755)",
        "os.mkdir('folder', 0o775)",
        "os.mkfifo('pipe', 0o600)",
        "os.mknod('socket', 0o140600)",
        "os.symlink('file', 'link')",
    ],
)
def test_other_calls_are_unaffected(folder: Path, line: str) -> None:
    assert confined(folder, line) == 0


@pytest.mark.needs("x86_64")
@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (90, (b"file", 0o4755)),
        (268, (-100, b"file", 0o4755)),
        (452, (-100, b"file", 0o4755, 0)),
        (85, (b"new", 0o4755)),
    ],
    ids=["chmod", "fchmodat", "fchmodat2", "creat"],
)
def test_a_system_call_is_refused_by_its_number(folder: Path, number: int, arguments: tuple[object, ...]) -> None:
    line = f"import ctypes; c = ctypes.CDLL(None, use_errno=True); c.syscall({number}, *{arguments!r}); "
    assert confined(folder, line + "sys.exit(ctypes.get_errno())") == errno.EPERM


@pytest.mark.needs("x86_64")
def test_upper_bits_of_a_mode_do_not_bypass_the_filter(folder: Path) -> None:
    """The kernel uses sixteen bits of a mode and ignores the others."""
    line = (
        "import ctypes; c = ctypes.CDLL(None, use_errno=True); "
        "c.syscall(90, b'file', ctypes.c_ulong(0xFFFF0000000049ED)); sys.exit(ctypes.get_errno())"
    )
    assert confined(folder, line) == errno.EPERM


def test_this_process_is_not_confined(folder: Path) -> None:
    assert confined(folder, "os.chmod('file', 0o4755)") == errno.EPERM
    (folder / "file").chmod(0o4755)
    assert (folder / "file").stat().st_mode & stat.S_ISUID
    (folder / "file").chmod(0o755)


def test_confined_programs_cannot_gain_privileges_from_setuid_programs(folder: Path) -> None:
    script = "grep -x 'NoNewPrivs:.1' /proc/self/status && grep -x 'Seccomp:.2' /proc/self/status"
    completed = seccomp.call_confined(lambda: subprocess.run(["sh", "-c", script], capture_output=True, check=False))
    assert completed.returncode == 0


@pytest.mark.needs("root")
def test_root_cannot_set_file_capabilities(folder: Path) -> None:
    version_3_with_setuid = bytes.fromhex("0100000280000000") + bytes(12)
    line = f"os.setxattr('file', 'security.capability', {version_3_with_setuid!r})"
    assert confined(folder, line) == errno.EPERM
    assert confined(folder, "os.setxattr('file', 'user.word', b'kept')") in (0, errno.ENOTSUP)


def test_an_exception_of_a_confined_function_is_raised() -> None:
    def fails() -> None:
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        seccomp.call_confined(fails)


def test_without_kernel_support_programs_run_unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "MACHINES", ())
    assert seccomp.is_supported() is False
    assert seccomp.call_confined(seccomp.confine_thread) is False


def test_the_filter_consists_of_whole_instructions_and_jumps_stay_inside() -> None:
    program = seccomp.program()
    steps = [program[at : at + 8] for at in range(0, len(program), 8)]
    assert len(program) == 8 * len(steps)
    assert len(steps) < 4096  # BPF_MAXINSNS
    for at, step in enumerate(steps):
        assert at + 1 + max(step[2], step[3]) <= len(steps)
    assert ctypes.c_ushort(len(steps)).value == len(steps)
