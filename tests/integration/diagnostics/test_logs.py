"""Logs: whole, their end, or followed; raw bytes in a pipe, and no control characters on a terminal."""

import json
import os
import pty
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2d.cli import diagnostics
from b2d.cli.unexpected_errors import LOG_LIMIT, report_unexpected
from b2d.diagnostics import logs
from b2d.errors import InvalidStateError
from b2d.host.files import write_atomic
from b2d.machine_store.store import MachineStore
from b2d.models import MachineState
from tests.support.cli import B2D, Prompt
from tests.support.fakes import FakeGuest, a_spec


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a user whose machine is off."""
    prompt = Prompt(tmp_path)
    MachineStore(prompt.home).write(a_spec())
    prompt.home.machine("boot2docker-vm").disk_qcow2.write_bytes(b"QFI\xfb")
    return prompt


def console(prompt: Prompt) -> Path:
    return prompt.home.machine("boot2docker-vm").serial_log


@contextmanager
def following(prompt: Prompt, *options: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    """Start `b2d logs -f`, which runs until it is ended."""
    running = subprocess.Popen(
        [B2D, "logs", "-f", *options],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=prompt.full_environment(),
        cwd=prompt.folder,
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        for stream in (running.stdout, running.stderr):
            if stream is not None:
                stream.close()


def read_until(running: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    """Return all output up to `wanted`."""
    assert running.stdout is not None
    return read_from(running.stdout.fileno(), wanted)


def read_from(descriptor: int, wanted: bytes) -> bytes:
    came = b""
    while wanted not in came:
        assert select.select([descriptor], [], [], 20)[0], came
        came += os.read(descriptor, 4096)
    return came


def test_tail_counts_line_feeds() -> None:
    assert logs.tail(b"a\r\nb\rc\nd", 2) == b"b\rc\nd"
    assert (logs.tail(b"a\nb\n", 0), logs.tail(b"a\nb\n", 9), logs.tail(b"a\nb\n", None)) == (b"", b"a\nb\n", b"a\nb\n")


def test_escape_sequences_are_removed() -> None:
    raw = b"\x1b[2J\x1b[0;32mOK\x1b[0m \x1b]0;title\x07a\tb\r\nc\x07\x00\xff\x1b]52;c;cm0=\x1b\\d\xc2\x9b6n\x1b"
    assert logs.printable_text(raw) == "OK a\tb\nc\N{REPLACEMENT CHARACTER}d6n"
    assert logs.printable_text(b"gr\xc3\xbc\xc3\x9fe") == "grüße"


@pytest.mark.parametrize(("options", "name"), [([], "serial_log"), (["--hypervisor"], "qemu_log"), (["--b2d"], "")])
def test_each_log_is_printed_byte_by_byte_and_tail_prints_its_end(
    prompt: Prompt, options: list[str], name: str
) -> None:
    path = getattr(prompt.home.machine("boot2docker-vm"), name) if name else prompt.home.log
    assert prompt.b2d("logs", *options).out == ""
    path.write_bytes(b"one\r\ntwo\x1b[1m\n\xffthree\n")
    assert prompt.b2d("logs", *options).out.encode("utf-8", "surrogateescape") == path.read_bytes()
    assert prompt.b2d("logs", *options, "-n", "2").out == "two\x1b[1m\n\udcffthree\n"
    assert json.loads(prompt.b2d("logs", *options, "--tail", "1", "--json").out) == {"log": "\ufffdthree\n"}


def test_the_log_of_virtualbox_is_shown_for_its_machines(prompt: Prompt) -> None:
    MachineStore(prompt.home).write(a_spec(driver="virtualbox"))
    path = prompt.home.machine("boot2docker-vm").virtualbox_log
    path.parent.mkdir(parents=True)
    path.write_text("VirtualBox VM 7.2\n")
    assert prompt.b2d("logs", "--hypervisor").out == "VirtualBox VM 7.2\n"


def test_the_log_of_b2d_needs_no_machine(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path)
    assert (prompt.b2d("logs", "--b2d").code, prompt.b2d("logs", "--hypervisor").code) == (0, 3)


def test_dockers_log_of_a_machine_that_is_off_cannot_be_followed(prompt: Prompt) -> None:
    result = prompt.b2d("logs", "--docker", "-f")
    assert (result.code, result.out) == (4, "")


def test_following_as_json_and_negative_tails_are_refused(prompt: Prompt) -> None:
    assert prompt.b2d("logs", "-f", "--json").code == 2
    assert prompt.b2d("logs", "-n", "-1").code == 2


def test_a_log_is_followed_across_starts_of_the_machine_until_ctrl_c(prompt: Prompt) -> None:
    console(prompt).write_bytes(b"old\nlast\n")
    with following(prompt, "-n", "1") as running:
        assert read_until(running, b"last\n") == b"last\n"
        with console(prompt).open("ab") as file:
            file.write(b"\xffmore\r\n")
        assert read_until(running, b"more\r\n") == b"\xffmore\r\n"
        write_atomic(console(prompt), b"")  # each start does this
        with console(prompt).open("ab") as file:
            file.write(b"a new boot\n")
        assert read_until(running, b"boot\n") == b"a new boot\n"
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=20)
        assert (running.returncode, stderr) == (130, b"\nb2d: interrupted\n")


def test_following_waits_for_a_log_that_does_not_exist_yet(prompt: Prompt) -> None:
    with following(prompt) as running:
        write_atomic(console(prompt), b"begun\n")
        assert read_until(running, b"begun\n") == b"begun\n"


def test_a_closed_stdout_ends_following_quietly_without_new_output(prompt: Prompt) -> None:
    console(prompt).write_bytes(b"line\n")
    with following(prompt) as running:
        read_until(running, b"line\n")
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        running.wait(timeout=20)
        assert running.stderr.read() == b""
        running.stdout = None


def test_control_characters_of_a_followed_log_do_not_reach_a_terminal(prompt: Prompt) -> None:
    console(prompt).write_bytes(b"\x1b[2Jclean\n")
    ours, theirs = pty.openpty()
    with following(prompt, stdout=theirs):
        os.close(theirs)
        assert read_from(ours, b"clean") in (b"clean", b"clean\r\n")
    os.close(ours)


class FollowedMachine:
    """A machine with a guest's log, as far as the command uses it."""

    def __init__(self, guest: FakeGuest, state: MachineState) -> None:
        self.name = "boot2docker-vm"
        self._guest = guest
        self._state = state

    def guest(self) -> FakeGuest:
        return self._guest

    def state(self) -> MachineState:
        return self._state


def test_the_docker_log_ends_with_the_machine_and_is_an_error_if_it_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(diagnostics, "print_line", lines.append)
    monkeypatch.setattr(diagnostics, "END_S", 0.1)
    guest = FakeGuest()
    diagnostics._follow_docker(FollowedMachine(guest, MachineState.STOPPED), 3)  # type: ignore[arg-type]
    assert guest.commands == [logs.tail_docker_log("-n 3 -F")]
    assert lines == ["boot2docker-vm has ended, and so has its log"]
    guest.reachable = False
    with pytest.raises(InvalidStateError, match="cannot be reached"):
        diagnostics._follow_docker(FollowedMachine(guest, MachineState.RUNNING), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("existing", [(0, 1, 2), (1,), (2,), ()])
def test_the_docker_log_is_read_where_the_guest_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: tuple[int, ...]
) -> None:
    paths = [tmp_path / name for name in ("own", "newer", "older")]
    monkeypatch.setattr(logs, "DOCKER_LOGS", tuple(map(str, paths)))
    for number in existing:
        paths[number].write_text(f"first\n{number}\n")
    completed = subprocess.run(["sh", "-c", logs.tail_docker_log("-n 1")], capture_output=True, text=True, check=False)
    if existing:
        assert completed.stdout == f"{existing[0]}\n"
    else:
        assert (completed.returncode != 0, str(paths[0]) in completed.stderr) == (True, True)


def test_the_size_of_the_b2d_log_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2D_HOME", str(tmp_path))
    (tmp_path / "b2d.log").write_bytes(b"x" * (LOG_LIMIT + 1))
    threads = [threading.Thread(target=report_unexpected, args=(ValueError("odd"), ["up"])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logs = [tmp_path / "b2d.log", tmp_path / "b2d.log.1"]  # their race decides which one has both
    assert sum(log.read_text().count("ValueError: odd") for log in logs) == 2
    assert logs[0].stat().st_size < LOG_LIMIT
