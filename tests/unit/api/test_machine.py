"""The verbs from Python: results, exceptions, the effect of `with`, and that nothing is printed or exits."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import b2d
from b2d.api.options import MachineChanges, MachineOptions
from b2d.app.wiring import App
from b2d.config import loader
from b2d.config.loader import ResolvedSettings
from b2d.config.settings import Settings
from b2d.diagnostics.logs import LIMIT, tail_docker_log
from b2d.drivers.base import Driver
from b2d.errors import B2dError, ConfigError, InvalidStateError, MachineLockedError, MachineNotFoundError
from b2d.machine.lifecycle import Machine as Verbs
from b2d.machine.reconfigure import FIELDS
from b2d.machine_store.store import MachineStore
from b2d.models import CommandResult, MachineSpec, MachineState
from b2d.paths import Home
from b2d.reporting.base import Reporter
from b2d.reporting.log import LogReporter
from tests.support.fake_machine import ADDRESS, DOCKER, Box, host_of
from tests.support.fakes import a_spec


class BoxApp(App):
    """An app of a home with the fake hypervisor."""

    def __init__(self, home: Home, effective: ResolvedSettings, reporter: Reporter, box: Box) -> None:
        super().__init__(home, effective, reporter)
        self.box = box

    @property
    def store(self) -> MachineStore:
        return self.box.store

    def machine(self, name: str = "") -> Verbs:
        return self.box.machine()

    def driver(self, spec: MachineSpec) -> Driver:
        return self.box.driver(spec)

    def new_machine_spec(self) -> MachineSpec:
        return self.box.spec()

    def with_image(self, spec: MachineSpec) -> MachineSpec:
        return spec


@pytest.fixture
def machine(box: Box, monkeypatch: pytest.MonkeyPatch) -> b2d.Machine:
    """Return the box's machine, on a host without a docker client."""
    monkeypatch.setenv("PATH", "/nowhere")
    return b2d.Machine.of(BoxApp(box.home, loader.load(box.home, {}, {"vm": "box"}), LogReporter(), box))


def test_a_machine_from_creation_to_deletion(machine: b2d.Machine, box: Box) -> None:
    assert machine.state() == "absent"
    facts = machine.up()
    assert (machine.state(), machine.ip(), facts.docker_port) == ("running", ADDRESS, DOCKER)
    assert machine.docker_env() == {"DOCKER_HOST": host_of(box)}
    assert (machine.save(), machine.save(), machine.state()) == (True, False, "saved")
    machine.restart()
    machine.reset()
    assert (machine.poweroff(), machine.poweroff()) == (True, False)
    machine.set(memory=640)
    assert box.store.read("box") == box.spec(memory_mib=640, image="0" * 64)
    assert (machine.delete(), machine.delete(), machine.state()) == (True, False, "absent")


def test_a_command_returns_its_own_exit_code_and_output(machine: b2d.Machine, box: Box) -> None:
    box.guest.answers = {"echo 'a b'": CommandResult(3, b"out", b"err")}
    machine.up()
    assert machine.ssh("echo", "a b") == CommandResult(3, b"out", b"err")
    with pytest.raises(ConfigError):
        machine.ssh()


def test_snapshots(machine: b2d.Machine) -> None:
    machine.init()
    assert machine.snapshot("clean").name == "clean"
    assert [snapshot.name for snapshot in machine.snapshots()] == ["clean"]
    assert machine.restore("clean").name == machine.forget("clean").name == "clean"
    assert machine.snapshots() == []


def test_disk_usage_and_ssh_config(machine: b2d.Machine) -> None:
    machine.init()
    assert (machine.disk().size, machine.disk().files) == (a_spec().disk_mib << 20, None)
    assert machine.compact().done
    with pytest.raises(InvalidStateError):
        machine.ssh_config()
    machine.up()
    assert machine.ssh_config().startswith(f"Host box\n    HostName {ADDRESS}\n")


def test_logs(machine: b2d.Machine, box: Box) -> None:
    machine.up()
    box.paths.serial_log.write_bytes(b"one\ntwo\xff\n")
    box.guest.answers = {
        tail_docker_log(f"-c {LIMIT}"): CommandResult(0, b"of docker\n", b""),
        tail_docker_log("-n 5"): CommandResult(1, b"", b"tail: no such file\n"),
    }
    assert machine.logs(lines=1) == "two\N{REPLACEMENT CHARACTER}\n"
    assert machine.logs("docker") == "of docker\n"
    with pytest.raises(B2dError, match=r"engine's log in the guest cannot be read"):
        machine.logs("docker", 5)
    with pytest.raises(ConfigError, match="no log 'x'"):
        machine.logs("x")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (MachineState.ABSENT, "stopped"),
        (MachineState.STOPPED, "stopped"),
        (MachineState.CRASHED, "stopped"),
        (MachineState.SAVED, "saved"),
        (MachineState.RUNNING, "running"),
    ],
)
def test_with_restores_the_previous_state_and_deletes_nothing(
    machine: b2d.Machine, box: Box, before: MachineState, after: str
) -> None:
    box.in_state(before)
    box.looks_until_off = 0
    with pytest.raises(ZeroDivisionError), machine as same:
        assert (same, same.state()) == (machine, "running")
        with machine:
            pass
        assert machine.state() == "running"
        raise ZeroDivisionError
    assert machine.state() == after


def test_with_leaves_no_machine_running_that_failed_to_start(machine: b2d.Machine, box: Box) -> None:
    box.create_machine()
    box.crashing.add("0" * 64)
    with pytest.raises(B2dError), machine:
        pytest.fail("it came up")
    assert machine.state() in ("stopped", "crashed")


def test_a_temporary_machine_is_deleted_only_if_it_did_not_exist(machine: b2d.Machine, box: Box) -> None:
    box.looks_until_off = 0
    with pytest.raises(ZeroDivisionError), machine.temporary():
        raise ZeroDivisionError
    assert machine.state() == "absent"
    box.create_machine()
    with machine.temporary() as same:
        assert same.state() == "running"
    assert machine.state() == "stopped"


def test_errors_and_exit_codes_are_those_of_the_command_line(machine: b2d.Machine, box: Box) -> None:
    for verb, kind, code in ((machine.ip, MachineNotFoundError, 3), (machine.stop, MachineNotFoundError, 3)):
        with pytest.raises(kind) as caught:
            verb()
        assert caught.value.exit_code == code and isinstance(caught.value, b2d.B2dError)
    machine.init()
    for ask in (machine.ip, machine.docker_env, machine.ports, machine.screenshot):
        with pytest.raises(InvalidStateError) as off:
            ask()
        assert (off.value.exit_code, off.value.hint) == (4, "b2d up --vm box")
    with box.store.lock("box", "up"), pytest.raises(MachineLockedError):
        machine.up()


def test_threads_run_commands_of_their_own_in_parallel(machine: b2d.Machine, box: Box) -> None:
    machine.up()
    outcomes: list[object] = []

    def ask() -> None:
        for _ in range(20):
            outcomes.append((machine.state(), machine.ip(), machine.ssh("x").exit_code))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [("running", ADDRESS, 0)] * 160


def test_settings_work_as_options_and_home_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2D_VM", "of-the-environment")
    assert b2d.Machine(home=tmp_path).name == "of-the-environment"
    created = b2d.Machine("ci", home=tmp_path, memory=700, tls=False, share=[])
    assert (created.name, created.folder) == ("ci", tmp_path / "machines" / "ci")
    assert created.socket == created.folder / "docker.sock"
    assert (created._app.settings.memory, created._app.settings.tls, created._app.settings.share) == (700, False, ())
    MachineStore(created._app.home).write(a_spec("other"))
    assert repr(b2d.Machine.all(tmp_path)) == f"[Machine('other', home='{tmp_path}')]"


def test_invalid_settings_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2D_HOME", str(tmp_path))
    for wrong in ({"memory": 1}, {"memory": "much"}, {"memroy": 1000}, {"driver": "xen"}):
        with pytest.raises(ConfigError) as caught:
            b2d.Machine(**wrong)
        assert caught.value.exit_code == 2
    for name in ("../x", "-x", "con"):
        with pytest.raises(ConfigError):
            b2d.Machine(name)
    with pytest.raises(ConfigError, match="cannot be changed"):
        b2d.Machine("x").set(tls=False)  # type: ignore[call-arg]


def test_every_setting_has_its_type() -> None:
    assert set(MachineOptions.__annotations__) == {*Settings._fields} - {"vm"}
    assert set(MachineChanges.__annotations__) == set(FIELDS)


def test_nothing_is_printed_and_messages_go_to_the_log(
    machine: b2d.Machine, box: Box, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    journal = LogReporter()
    with caplog.at_level(logging.INFO, "b2d"):
        journal.warn("look")
        with journal.step("a while"), journal.progress("bytes", 3) as bar:
            bar.advance(3)
        with pytest.raises(ZeroDivisionError), journal.step("in vain"):
            raise ZeroDivisionError
    assert [(record.levelname, record.getMessage().partition("  ")[0]) for record in caplog.records] == [
        ("WARNING", "look"),
        ("INFO", "bytes"),
        ("INFO", "a while"),
        ("INFO", "in vain"),
    ]
    machine.up()
    assert capfd.readouterr() == ("", "")


def run(code: str) -> "subprocess.CompletedProcess[str]":
    known = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    return subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, check=False)


def test_warnings_are_not_printed_without_logging() -> None:
    completed = run("from b2d.reporting.log import LogReporter; LogReporter().warn('look')")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("import b2d", {"b2d"}),
        ("from b2d import B2dError", {"b2d", "b2d.errors"}),
    ],
)
def test_importing_b2d_loads_nothing(code: str, more: set[str]) -> None:
    completed = run(f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))")
    assert set(completed.stdout.split()) == more


def test_importing_the_machine_loads_no_library() -> None:
    completed = run("import sys\nfrom b2d import Machine\nMachine('x', home='/nowhere/x')\nprint(*sys.modules)")
    heavy = {
        "click",
        "rich",
        "requests",
        "paramiko",
        "cryptography",
        "psutil",
        "ssl",
        "subprocess",
        "logging",
        "pytest",
    }
    assert set(completed.stdout.split()) & heavy == set(), completed.stderr
    assert completed.returncode == 0


def test_missing_names_raise_the_usual_python_errors() -> None:
    with pytest.raises(ImportError):
        exec("from b2d import Machinery")
    with pytest.raises(AttributeError, match="Machinery"):
        getattr(b2d, "Machinery")  # noqa: B009
