"""A broken environment: one error message and an exit code, and never a traceback."""

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from b2d.host import unix_sockets
from b2d.host.process_identity import identify
from tests.cli.test_images import a_stopped_machine
from tests.integration.machine.test_recovery import record_running
from tests.support.cli import B2D, LIMIT_S, Prompt

CAPITALS = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # ASCII without Python's UTF-8 mode


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a new user."""
    return Prompt(tmp_path)


@pytest.mark.parametrize("verb", ["stop", "init", "up", "list", "iso list", "status", "config", "delete"])
def test_a_home_that_is_a_file_is_reported(prompt: Prompt, verb: str) -> None:
    file = prompt.folder / "file"
    file.write_text("mine")
    result = prompt.b2d(*verb.split(), B2D_HOME=str(file))
    assert (result.code, result.out) == (2, "")
    assert result.err == f"b2d: {file}/config.toml cannot be read: Not a directory\n"
    assert file.read_text() == "mine"


def test_doctor_runs_the_other_checks_if_the_home_is_a_file(prompt: Prompt) -> None:
    file = prompt.folder / "file"
    file.write_text("mine")
    result = prompt.b2d("doctor", B2D_HOME=str(file))
    assert result.code == 2
    assert result.out.startswith(
        f"bad       settings: {file}/config.toml cannot be read: Not a directory\ngood      python"
    )
    assert result.err == f"b2d: {file}/config.toml cannot be read: Not a directory\n"
    assert file.read_text() == "mine"


@pytest.mark.parametrize("home", ["/proc/b2d", "/sys/kernel"])  # nobody can create files there, not even root
def test_a_home_that_cannot_be_written_is_reported(prompt: Prompt, home: str) -> None:
    result = prompt.b2d("stop", B2D_HOME=home)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"b2d: {home}")
    assert len(result.err.splitlines()) == 1
    assert prompt.b2d("status", B2D_HOME=home).out == "absent\n"


def test_an_invalid_configuration_is_reported_with_file_and_line(prompt: Prompt) -> None:
    prompt.home.root.mkdir()
    prompt.home.config.write_text('vm = "a"\nmemory = = 3\n')
    for typed in ("status", "ip", "shellinit", "config", "list", "up"):
        result = prompt.b2d(typed)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"b2d: {prompt.home.config} is not valid TOML: ")
        assert "line 2" in result.err
    prompt.home.config.write_bytes(b'vm = "\xff"\n')
    assert "is not UTF-8" in prompt.b2d("status").err
    prompt.home.config.write_text("memry = 3\n")
    result = prompt.b2d("status")
    assert result.err.startswith(f"b2d: {prompt.home.config}:1: there is no setting 'memry': did you mean 'memory'?\n")
    assert prompt.b2d("version").code == 0
    assert prompt.b2d("--help").code == 0


@pytest.mark.parametrize("verb", ["config", "--help", "config --json", "list --json", "version"])
def test_a_closed_stdout_ends_the_command_quietly(prompt: Prompt, verb: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        completed = subprocess.run(
            [B2D, "-q", *verb.split()], stdout=pipe, stderr=subprocess.PIPE, env=prompt.full_environment(), check=False
        )
    assert (completed.returncode, completed.stderr) == (1, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("verb", ["status", "stop", "delete", "list --json", "ssh", "--foo", "ip"])
def test_closed_standard_streams_change_no_exit_code(prompt: Prompt, verb: str, closed: str) -> None:
    expected = prompt.b2d(*verb.split())
    result = prompt.sh(f"{B2D} {verb} {closed}")
    assert result.code == expected.code
    assert result.out == ("" if ">&-" in closed.split() else expected.out)
    assert result.err == ("" if "2>&-" in closed else expected.err)


@pytest.mark.parametrize("verb", ["status", "config", "list --json"])
def test_a_full_disk_is_reported(prompt: Prompt, verb: str) -> None:
    result = prompt.sh(f"{B2D} {verb} >/dev/full")
    assert (result.code, result.err) == (1, "b2d: stdout cannot be written: No space left on device\n")
    assert prompt.sh(f"{B2D} stop 2>/dev/full").code == 3


@pytest.mark.parametrize("locale", [{}, CAPITALS], ids=["UTF-8", "ASCII"])
def test_names_of_folders_are_printed_unchanged(prompt: Prompt, locale: dict[str, str]) -> None:
    for name in ("grüße 🐳", os.fsdecode(b"\xff")):
        folder = prompt.folder / name
        folder.mkdir()
        (folder / "config.toml").write_text('image = "/tmp/grün"\n', encoding="utf-8")
        environment = {"B2D_HOME": str(folder)} | locale
        result = prompt.b2d("config", **environment)
        assert result.code == 0
        assert f"# {folder}/config.toml" in result.out
        assert 'image = "/tmp/grün"' in result.out
        assert prompt.b2d("config", "image", **environment).out == "/tmp/grün\n"
        assert prompt.b2d("config", "--json", **environment).code == 0
        assert prompt.b2d("stop", **environment).code == 3


def test_a_non_ascii_argument_is_stored_unchanged_in_an_ascii_locale(prompt: Prompt) -> None:
    assert prompt.b2d("config", "set", "image=/tmp/grün", **CAPITALS).code == 0
    assert prompt.home.config.read_text(encoding="utf-8") == 'image = "/tmp/grün"\n'
    result = prompt.b2d("config", "set", os.fsdecode(b"image=/tmp/gr\xfc"))
    assert (result.code, result.err) == (2, "b2d: b'\\xfc' is not UTF-8, which TOML needs\n")


def test_control_characters_in_a_name_do_not_reach_the_terminal(prompt: Prompt) -> None:
    file = prompt.folder / "a\x1b[2Jbc\x9b"
    file.touch()
    result = prompt.b2d("list", B2D_HOME=str(file))
    assert result.err == f"b2d: {prompt.folder}/a\ufffd[2Jbc\ufffd/config.toml cannot be read: Not a directory\n"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=["NO_COLOR", "dumb", "plain"])
def test_output_on_a_terminal_of_20_columns_is_plain(prompt: Prompt, environment: dict[str, str]) -> None:
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [B2D, "stop"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=prompt.full_environment(COLUMNS="20", **environment),
    )
    os.close(follower)
    assert child.wait(LIMIT_S) == 3
    output = os.read(leader, 65536).decode()
    os.close(leader)
    assert output == "b2d: there is no machine boot2docker-vm\r\n     try: b2d init\r\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("typed", ["status", "status --json"])
def test_ctrl_c_and_sigterm_exit_with_the_code_of_the_signal(
    prompt: Prompt, program: "subprocess.Popen[bytes]", typed: str, number: signal.Signals, code: int
) -> None:
    a_stopped_machine(prompt, "boot2docker-vm")
    paths = prompt.home.machine("boot2docker-vm")
    record_running(paths, identify(program.pid))
    with unix_sockets.listen(paths.qmp_socket) as silent:  # requests to it are never answered
        silent.settimeout(LIMIT_S)
        command = [B2D, *typed.split()]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=prompt.full_environment())
        with silent.accept()[0]:
            child.send_signal(number)
            out, err = child.communicate(timeout=LIMIT_S)
    assert (child.returncode, out, err) == (code, b"", b"\nb2d: interrupted\n")


def broken_library(prompt: Prompt, name: str, content: str) -> str:
    """Return a folder for PYTHONPATH with a broken library."""
    folder = prompt.folder / "broken"
    folder.mkdir()
    (folder / f"{name}.py").write_text(content)
    return str(folder)


def test_a_bug_is_one_sentence_and_a_log_entry(prompt: Prompt) -> None:
    path = broken_library(prompt, "filelock", "raise RuntimeError('it broke')")
    result = prompt.b2d("stop", PYTHONPATH=path)
    log = prompt.home.log
    assert (result.code, result.out) == (1, "")
    assert (
        result.err == f"b2d: this is a bug in b2d (the traceback is in {log}): RuntimeError: it broke\n     more: -v\n"
    )
    assert "Traceback" in log.read_text()
    assert ": stop\n" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    before = log.stat().st_size
    result = prompt.b2d("-v", "stop", PYTHONPATH=path)
    assert "Traceback" in result.err
    assert log.stat().st_size > before


def test_errors_in_threads_and_destructors_are_only_logged(prompt: Prompt) -> None:
    thread = "import threading\nthread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()\n"
    leaving = "class Leaves:\n    def __del__(self):\n        [][1]\nLeaves()\n"
    result = prompt.b2d(
        "stop", PYTHONPATH=broken_library(prompt, "filelock", f"{thread}{leaving}raise OSError(28, 'No')")
    )
    assert (result.code, result.out, result.err) == (1, "", "b2d: No\n     more: -v\n")
    assert "ZeroDivisionError" in prompt.home.log.read_text()
    assert "IndexError" in prompt.home.log.read_text()


def test_a_bug_is_reported_even_if_the_log_cannot_be_written(prompt: Prompt) -> None:
    path = broken_library(prompt, "filelock", "raise RuntimeError('it broke')")
    (prompt.folder / ".b2d").mkdir()
    prompt.home.log.mkdir()
    result = prompt.b2d("stop", PYTHONPATH=path)
    assert (result.code, result.err) == (1, "b2d: this is a bug in b2d: RuntimeError: it broke\n     more: -v\n")


def test_an_os_error_is_not_a_bug(prompt: Prompt) -> None:
    path = broken_library(prompt, "filelock", "open('/nowhere/at/all')")
    result = prompt.b2d("stop", PYTHONPATH=path)
    assert (result.code, result.err) == (1, "b2d: /nowhere/at/all: No such file or directory\n     more: -v\n")


def test_an_incomplete_installation_is_reported(prompt: Prompt) -> None:
    path = broken_library(prompt, "click", "raise ImportError('no click')")
    result = prompt.b2d("list", PYTHONPATH=path)
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[0] == "b2d: this installation is incomplete: no click"


def test_a_missing_home_directory_is_no_error_for_status(prompt: Prompt) -> None:
    result = prompt.b2d("status", HOME="/nowhere")
    assert (result.code, result.out) == (3, "absent\n")


def test_a_home_of_an_unknown_user_is_reported(prompt: Prompt) -> None:
    result = prompt.b2d("status", B2D_HOME="~nobody-of-that-name/b2d")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("b2d: ~nobody-of-that-name/b2d cannot be resolved: ")
