"""b2d is killed at every change to a QEMU machine's files, or QEMU itself is killed: the next command continues."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from b2d.drivers.qemu.driver import QemuDriver, QemuSettings
from b2d.drivers.qemu.qmp import Qmp
from b2d.errors import B2dError, HypervisorError
from b2d.host import processes
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify, is_alive
from b2d.machine_names import command_for
from b2d.models import STARTED_STATES, Image, MachineState
from b2d.paths import MachinePaths
from tests.support import fault_injection, tiny_guest

pytestmark = pytest.mark.qemu


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    return tiny_guest.folder(tmp_path / "m")


@pytest.fixture
def make(paths: MachinePaths, tiny_image: Image) -> Iterator[Callable[[], QemuDriver]]:
    """Return a factory of drivers of one machine."""
    spec = tiny_guest.spec()

    def driver() -> QemuDriver:
        return QemuDriver(spec, paths, lambda: tiny_image, QemuSettings("tcg"))

    yield driver
    driver().delete()


def counts(driver: QemuDriver) -> list[int]:
    return tiny_guest.counts(driver.console())


def wait_for(driver: QemuDriver, number: int) -> None:
    condition = f"the count of {number}"
    wait_until(
        lambda: max(counts(driver), default=0) >= number, condition=condition, timeout_s=tiny_guest.BOOT_TIMEOUT_S
    )


def start_and_count(driver: QemuDriver) -> int:
    """Start the machine from any state, as `up` does, and return its count."""
    if driver.state() == MachineState.CRASHED:
        driver.kill()
    if driver.state() not in STARTED_STATES:
        driver.start()
    before = max(counts(driver), default=0)
    wait_for(driver, before + 2)
    return max(counts(driver))


def check_disk(paths: MachinePaths) -> None:
    """Assert that the disk is unlocked and undamaged."""
    processes.check(["qemu-img", "check", "-q", str(paths.disk_qcow2)], timeout_s=60)


def kill_at_each_change(
    paths: MachinePaths, act: Callable[[], object], before: Callable[[], object], after: Callable[[int], None]
) -> int:
    """Repeat the call in a process that dies at its first, second ... change; return the number of changes."""
    for at in range(1, 60):
        before()
        died = fault_injection.run_dying(paths.folder, at, act, lambda: None)
        after(at)
        if not died:
            return at - 1
    raise AssertionError("it does not end")


def test_create_and_delete(make: Callable[[], QemuDriver], paths: MachinePaths) -> None:
    def delete() -> None:
        make().delete()

    def create_again() -> None:
        delete()
        check_created(0)

    def check_created(_: int) -> None:
        driver = make()
        if driver.state() == MachineState.ABSENT:
            driver.create(b"payload")
        assert driver.state() == MachineState.STOPPED
        assert driver.disk_mib() == tiny_guest.spec().disk_mib
        check_disk(paths)

    assert kill_at_each_change(paths, lambda: make().create(b"payload"), delete, check_created) >= 4
    assert (
        kill_at_each_change(paths, lambda: make().delete(), lambda: check_created(0), lambda _: check_created(0)) >= 1
    )
    assert kill_at_each_change(paths, lambda: make().grow_disk(400), create_again, lambda _: check_disk(paths)) >= 1
    make().grow_disk(400)
    assert make().disk_mib() == 400


def test_start_and_kill(make: Callable[[], QemuDriver], paths: MachinePaths) -> None:
    make().create(b"payload")
    first = start_and_count(make())
    make().kill()

    def ensure_started() -> None:
        if make().state() == MachineState.CRASHED:
            make().kill()
        if make().state() not in STARTED_STATES:
            make().start()
        assert make().state() in STARTED_STATES

    def check_next_start(at: int) -> None:
        ensure_started()
        make().kill()
        assert make().state() == MachineState.STOPPED, at
        check_disk(paths)  # QEMU cannot report it while another QEMU has the disk

    assert kill_at_each_change(paths, lambda: make().start(), lambda: None, check_next_start) >= 4
    assert kill_at_each_change(paths, lambda: make().kill(), ensure_started, check_next_start) >= 2
    assert start_and_count(make()) > first


@pytest.fixture
def restore_saved(make: Callable[[], QemuDriver], paths: MachinePaths, tmp_path: Path) -> Callable[[], None]:
    """Return a function that restores the machine to its state after the first save."""
    make().create(b"payload")
    start_and_count(make())
    make().save()
    shutil.copytree(paths.folder, tmp_path / "slept")

    def again() -> None:
        make().delete()
        shutil.copytree(tmp_path / "slept", paths.folder, dirs_exist_ok=True)

    return again


def test_save_and_resume(
    make: Callable[[], QemuDriver], paths: MachinePaths, restore_saved: Callable[[], None]
) -> None:
    """The guest resumes or boots with its disk intact, and no state is left that would roll the disk back."""
    reached = 0

    def prepare_running() -> None:
        nonlocal reached
        restore_saved()
        reached = start_and_count(make())

    def prepare_saved() -> None:
        nonlocal reached
        restore_saved()
        reached = max(counts(make()))

    def check_next_start(at: int) -> None:
        assert start_and_count(make()) > reached, at
        make().kill()
        assert make().state() == MachineState.STOPPED, at
        check_disk(paths)
        listed = json.loads(processes.check(["qemu-img", "info", "--output=json", str(paths.disk_qcow2)], timeout_s=60))
        assert listed.get("snapshots", []) == [], at

    assert kill_at_each_change(paths, lambda: make().save(), prepare_running, check_next_start) >= 4
    assert kill_at_each_change(paths, lambda: make().start(), prepare_saved, check_next_start) >= 4


def test_a_machine_that_runs_after_a_killed_save_can_be_saved(make: Callable[[], QemuDriver]) -> None:
    make().create(b"payload")
    start_and_count(make())

    def save_and_die() -> None:
        Qmp.execute = execute  # type: ignore[method-assign]  # in this process alone
        make().save()

    real = Qmp.execute

    def execute(self: Qmp, command: str, *arguments: object, **more: object) -> object:
        if command == "job-dismiss":
            os._exit(fault_injection.KILLED)
        return real(self, command, *arguments, **more)  # type: ignore[arg-type]

    assert fault_injection.run_dying(Path("/nowhere"), -1, save_and_die, lambda: None)
    start_and_count(make())
    make().save()
    assert make().state() == MachineState.SAVED


def test_a_resume_that_dies_before_the_state_is_loaded_leaves_it_for_the_next_one(
    make: Callable[[], QemuDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    make().create(b"payload")
    slept = start_and_count(make())
    make().save()

    def resume_and_die() -> None:
        monkeypatch.setattr("b2d.drivers.qemu.saved_state.SavedState.load", lambda *_: os._exit(fault_injection.KILLED))
        make().start()

    assert fault_injection.run_dying(Path("/nowhere"), -1, resume_and_die, lambda: None)
    assert make().state() == MachineState.CRASHED
    make().kill()
    assert make().state() == MachineState.SAVED
    make().start()
    wait_for(make(), slept + 2)
    assert tiny_guest.initial_counts(make().console()) == []  # it did not boot


@pytest.mark.parametrize("verb", ["save", "start", "stop"])
def test_commands_succeed_after_qemu_was_killed_during_one(
    make: Callable[[], QemuDriver], paths: MachinePaths, verb: str
) -> None:
    make().create(b"payload")
    reached = start_and_count(make())
    if verb == "start":
        make().save()
    execute = Qmp.execute
    commands = [0]

    def killing(at: int) -> Callable[..., object]:
        def ask(self: Qmp, command: str, *arguments: object, **more: object) -> object:
            commands[0] += 1
            if commands[0] == at:
                process = identify(int(paths.qemu_pid.read_text()))
                assert process is not None
                os.kill(process.pid, signal.SIGKILL)
                wait_until(lambda: not is_alive(process), condition="QEMU's death", timeout_s=10)
            return execute(self, command, *arguments, **more)  # type: ignore[arg-type]

        return ask

    for at in {"save": (2, 4, 6), "start": (1, 3), "stop": (2,)}[verb]:
        commands[0] = 0
        with pytest.MonkeyPatch.context() as patches, suppress(B2dError):
            patches.setattr(Qmp, "execute", killing(at))
            getattr(make(), verb)()
        now = start_and_count(make())
        assert now > reached, at
        reached = now
        if verb == "start":
            make().save()


def test_a_missing_control_socket_is_reported_with_a_command_that_stops_the_machine(
    make: Callable[[], QemuDriver], paths: MachinePaths
) -> None:
    make().create(b"payload")
    reached = start_and_count(make())
    process = make().process()
    assert process is not None
    paths.qmp_socket.unlink()
    assert make().state() == MachineState.RUNNING
    with pytest.raises(HypervisorError, match="gone") as caught:
        make().stop()
    commands = [command_for(verb, paths.folder.name) for verb in ("ssh -- sudo poweroff", "poweroff")]
    assert caught.value.hint == ", or ".join(commands)
    make().kill()
    assert identify(process.pid) != process
    assert make().state() == MachineState.STOPPED
    assert start_and_count(make()) > reached


def test_a_machine_with_a_deleted_disk_runs_until_it_is_killed(
    make: Callable[[], QemuDriver], paths: MachinePaths
) -> None:
    make().create(b"payload")
    start_and_count(make())
    paths.disk_qcow2.unlink()
    assert make().state() == MachineState.RUNNING
    make().kill()
    assert make().state() == MachineState.ABSENT
