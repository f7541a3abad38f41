"""Two commands at once end in one of the two orders, or one reports the other; readers never wait."""

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from b2d.machine_store.store import MachineStore
from tests.support.cli import B2D, Prompt
from tests.support.fakes import a_spec
from tests.support.timing import wall_limit

WRITERS = ["init", "stop", "save", "delete --yes", "restart", "set memory=640"]
READERS = ["status", "list", "shellinit", "ip", "info", "config", "logs", "iso list"]
CODES = {0, 1, 3, 4, 6, 7, 8}


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a user with a stopped machine whose image is no longer stored."""
    prompt = Prompt(tmp_path)
    prompt.environment["B2D_MIRROR"] = "http://127.0.0.1:9/debian"  # an init that comes after a delete gets no image
    reset_home(prompt)
    return prompt


def reset_home(prompt: Prompt) -> None:
    shutil.rmtree(prompt.home.root, ignore_errors=True)
    MachineStore(prompt.home).write(a_spec("boot2docker-vm"))
    prompt.home.machine("boot2docker-vm").disk_qcow2.write_bytes(b"QFI\xfb")


def start_b2d(prompt: Prompt, line: str) -> "subprocess.Popen[str]":
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [B2D, *line.split()]
    return subprocess.Popen(command, **streams, env=prompt.full_environment(), cwd=prompt.folder, text=True)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations_with_replacement(WRITERS, 2)))
def test_two_writing_commands_at_once_leave_a_valid_machine(prompt: Prompt, first: str, second: str) -> None:
    pair = [start_b2d(prompt, first), start_b2d(prompt, second)]
    for process in pair:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode in CODES, stderr
        assert "Traceback" not in stderr
        assert "bug" not in stderr
    assert not prompt.home.machine("boot2docker-vm").holder.exists()
    result = prompt.b2d("status")
    assert result.out in ("stopped\n", "absent\n")
    deleted = "delete --yes" in (first, second)
    assert (result.out == "absent\n") is deleted or {first, second} == {"delete --yes", "init"}  # the last state
    assert prompt.b2d("delete", "--yes").code == 0
    assert not prompt.home.machine("boot2docker-vm").folder.exists()


def test_readers_do_not_wait_for_writers(prompt: Prompt) -> None:
    store = MachineStore(prompt.home)
    plain = {}
    for verb in READERS:
        begin = time.monotonic()
        plain[verb] = prompt.b2d(*verb.split()), time.monotonic() - begin
    with store.lock("boot2docker-vm", "up"):
        for verb in READERS:
            with wall_limit(plain[verb][1] + 2):  # a writer waits for 5 s
                result = prompt.b2d(*verb.split())
            assert result == plain[verb][0], verb
        busy = prompt.b2d("stop")
        assert busy.code == 8
        assert f"`b2d up` (pid {os.getpid()})" in busy.err


def test_a_stale_lock_file_does_not_lock(prompt: Prompt) -> None:
    paths = prompt.home.machine("boot2docker-vm")
    paths.lock.write_text("123\n")
    paths.holder.write_text("123 up\n")
    assert prompt.b2d("stop").code == 0
    assert not paths.holder.exists()


def test_a_machine_deleted_while_another_command_waits_is_absent_for_it(prompt: Prompt) -> None:
    with MachineStore(prompt.home).lock("boot2docker-vm", "delete"):
        waiting = start_b2d(prompt, "stop")
        time.sleep(1)
        MachineStore(prompt.home).remove("boot2docker-vm")
    _, stderr = waiting.communicate(timeout=60)
    assert (waiting.returncode, "b2d init" in stderr) == (3, True)
