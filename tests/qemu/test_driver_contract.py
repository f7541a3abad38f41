"""The contract of all drivers, tested on the fake one and on the real ones."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from b2d.drivers.base import Driver
from b2d.errors import HypervisorError, InvalidStateError, MachineNotFoundError
from b2d.host.polling import wait_until
from b2d.models import Image, MachineState, Snapshot
from b2d.network import port_allocation
from tests.support import tiny_guest
from tests.support.driver_cases import Case, FakeCase, QemuCase
from tests.support.timing import wall_limit
from tests.support.virtualbox_case import VIRTUALBOX, VirtualBoxCase

STOP_TIMEOUT_S = 30


@pytest.fixture(scope="session")
def tiny_image(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return tiny_guest.image(image, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.qemu), *VIRTUALBOX])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    if request.param == "fake":
        yield FakeCase()
        return
    with monkeypatch.context() as patches:
        folder = tmp_path / "a machine, with a comma"
        new_case: Case = (
            VirtualBoxCase(request.getfixturevalue("own_virtualbox"), folder, patches)
            if request.param == "virtualbox"
            else QemuCase(request.getfixturevalue("tiny_image"), folder, patches)
        )
        yield new_case
    new_case.driver().delete()


@pytest.fixture
def machine(case: Case) -> Case:
    """Return a machine that has been created."""
    case.driver().create(b"payload")
    return case


def test_a_machine_that_was_never_created_is_absent(case: Case) -> None:
    assert case.driver().state() == MachineState.ABSENT


@pytest.mark.parametrize("verb", [Driver.delete, Driver.kill], ids=["delete", "kill"])
def test_deleting_and_killing_an_absent_machine_succeed(case: Case, verb: Callable[[Driver], None]) -> None:
    getattr(case.driver(), verb.__name__)()
    assert case.driver().state() == MachineState.ABSENT


@pytest.mark.parametrize("verb", ["start", "stop", "save", "endpoint"])
def test_verbs_on_an_absent_machine_are_refused(case: Case, verb: str) -> None:
    with pytest.raises(MachineNotFoundError):
        getattr(case.driver(), verb)()
    assert case.driver().state() == MachineState.ABSENT


def test_a_created_machine_is_stopped(machine: Case) -> None:
    assert machine.driver().state() == MachineState.STOPPED


def test_a_machine_is_not_created_twice(machine: Case) -> None:
    with pytest.raises(InvalidStateError):
        machine.driver().create(b"another payload")
    assert machine.driver().state() == MachineState.STOPPED


@pytest.mark.parametrize("verb", ["stop", "save", "endpoint"])
def test_verbs_on_a_stopped_machine_are_refused(machine: Case, verb: str) -> None:
    with pytest.raises(InvalidStateError):
        getattr(machine.driver(), verb)()
    assert machine.driver().state() == MachineState.STOPPED


def test_a_started_machine_has_the_endpoint_of_its_spec(machine: Case) -> None:
    machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING
    endpoint = machine.driver().endpoint()
    assert endpoint.address == machine.spec.address
    assert (endpoint.ssh_port, endpoint.docker_port) == (machine.spec.ssh_port, machine.spec.docker_port)


def test_a_machine_has_a_process_only_while_it_runs(machine: Case) -> None:
    driver = machine.driver()
    assert driver.process() is None
    driver.start()
    running = driver.process()
    assert running is not None
    assert running == machine.driver().process()
    driver.kill()
    assert driver.process() is None


def test_a_running_machine_is_not_started_again(machine: Case) -> None:
    machine.driver().start()
    with pytest.raises(InvalidStateError):
        machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING


def test_kill_stops_at_once_and_may_be_repeated(machine: Case) -> None:
    machine.driver().start()
    machine.driver().kill()
    assert machine.driver().state() == MachineState.STOPPED
    machine.driver().kill()
    assert machine.driver().state() == MachineState.STOPPED


def test_a_killed_machine_starts_again(machine: Case) -> None:
    machine.driver().start()
    machine.driver().kill()
    machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING


def test_a_running_machine_can_be_deleted(machine: Case) -> None:
    machine.driver().start()
    machine.driver().delete()
    assert machine.driver().state() == MachineState.ABSENT
    assert port_allocation.is_free(machine.spec.address, machine.spec.docker_port)


def test_a_deleted_machine_can_be_created_again(machine: Case) -> None:
    machine.driver().delete()
    machine.driver().create(b"payload")
    assert machine.driver().state() == MachineState.STOPPED


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_the_power_button_stops_the_machine(machine: Case, paused: bool) -> None:
    machine.boot()
    if paused:
        machine.pause()
    machine.driver().stop()
    wait_until(lambda: machine.driver().state() == MachineState.STOPPED, condition="the end", timeout_s=STOP_TIMEOUT_S)


def test_a_machine_with_a_killed_process_has_crashed_and_starts_again(machine: Case) -> None:
    machine.driver().start()
    machine.crash()
    assert machine.driver().state() == MachineState.CRASHED
    with pytest.raises(InvalidStateError):
        machine.driver().endpoint()
    machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING


def test_kill_clears_the_crashed_state(machine: Case) -> None:
    machine.driver().start()
    machine.crash()
    machine.driver().kill()
    assert machine.driver().state() == MachineState.STOPPED


def test_a_crashed_machine_can_be_deleted(machine: Case) -> None:
    machine.driver().start()
    machine.crash()
    machine.driver().delete()
    assert machine.driver().state() == MachineState.ABSENT


def test_a_saved_machine_resumes_and_is_saved_only_once(machine: Case) -> None:
    machine.boot()  # an emulating VirtualBox may crash on a state that was saved in its BIOS
    machine.driver().save()
    assert machine.driver().state() == MachineState.SAVED
    with pytest.raises(InvalidStateError):
        machine.driver().endpoint()
    machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING
    machine.driver().kill()
    assert machine.driver().state() == MachineState.STOPPED


def test_a_killed_saved_machine_stays_saved(machine: Case) -> None:
    machine.driver().start()
    machine.driver().save()
    machine.driver().kill()
    assert machine.driver().state() == MachineState.SAVED


def test_a_saved_machine_can_be_deleted_and_leaves_nothing(machine: Case) -> None:
    machine.driver().start()
    machine.driver().save()
    machine.driver().delete()
    machine.driver().create(b"payload")
    assert machine.driver().state() == MachineState.STOPPED


def test_a_machine_paused_from_outside_continues_with_start(machine: Case) -> None:
    machine.driver().start()
    machine.pause()
    assert machine.driver().state() == MachineState.PAUSED
    machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING


def test_a_hypervisor_that_hangs_counts_as_running_within_two_seconds(machine: Case) -> None:
    machine.driver().start()
    machine.hang()
    with wall_limit(2):
        assert machine.driver().state() == MachineState.RUNNING


def test_a_hypervisor_that_hangs_is_named_and_can_be_killed(machine: Case) -> None:
    machine.driver().start()
    machine.hang()
    with pytest.raises(HypervisorError):
        machine.driver().stop()
    with pytest.raises(HypervisorError):
        machine.driver().save()
    machine.driver().kill()
    assert machine.driver().state() == MachineState.STOPPED


def test_without_the_hypervisor_nothing_starts_and_the_state_is_correct(machine: Case) -> None:
    machine.uninstall()
    with pytest.raises(HypervisorError) as caught:
        machine.driver().check()
    assert caught.value.hint
    with pytest.raises(HypervisorError):
        machine.driver().start()
    assert machine.driver().state() == MachineState.STOPPED


def test_without_the_hypervisor_nothing_is_created(case: Case) -> None:
    case.uninstall()
    with pytest.raises(HypervisorError):
        case.driver().create(b"payload")
    assert case.driver().state() == MachineState.ABSENT


def test_the_console_is_empty_before_the_first_start_and_restarts_with_each_boot(machine: Case) -> None:
    driver = machine.driver()
    assert driver.console() == ""
    machine.boot()
    wait_until(lambda: len(tiny_guest.counts(driver.console())) > 2, condition="the guest", timeout_s=60)
    before = driver.console()
    driver.kill()
    assert before in driver.console()
    driver.start()
    assert len(driver.console()) < len(before)


def test_the_screen_of_a_running_machine_is_a_png(machine: Case) -> None:
    driver = machine.driver()
    with pytest.raises(InvalidStateError):
        driver.screenshot()
    machine.boot()
    assert driver.screenshot().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_effective_spec_of_a_running_machine_is_that_of_its_start(machine: Case) -> None:
    driver = machine.driver()
    assert driver.effective_spec() is None
    driver.start()
    had = machine.spec
    assert driver.effective_spec() == had
    machine.spec = had._replace(memory_mib=had.memory_mib + 64)
    another = machine.driver()
    assert another.effective_spec() == had
    driver.kill()
    assert driver.effective_spec() is None


def test_a_disk_grows_only_while_its_machine_is_off(machine: Case) -> None:
    driver = machine.driver()
    assert driver.disk_mib() == machine.spec.disk_mib
    driver.start()
    with pytest.raises(InvalidStateError):
        driver.grow_disk(machine.spec.disk_mib + 100)
    driver.kill()
    driver.grow_disk(machine.spec.disk_mib + 100)
    driver.grow_disk(machine.spec.disk_mib)
    assert driver.disk_mib() == machine.spec.disk_mib + 100
    driver.start()
    assert driver.state() == MachineState.RUNNING


def test_a_disk_is_compacted_while_its_machine_is_off(machine: Case) -> None:
    driver = machine.driver()
    assert driver.disk_room() > 0
    driver.compact_disk()
    machine.boot()
    with pytest.raises(InvalidStateError):
        driver.compact_disk()
    assert driver.disk_room() > 0
    driver.kill()
    driver.compact_disk()
    machine.boot()


def test_a_driver_with_snapshots_restores_them(machine: Case) -> None:
    driver = machine.driver()
    assert driver.snapshots() == []
    driver.take_snapshot("first")
    machine.boot()
    driver.take_snapshot("2")  # QEMU's own numbering
    assert driver.state() == MachineState.RUNNING
    assert [snapshot.name for snapshot in machine_snapshots(machine)] == ["first", "2"]
    assert driver.snapshots()[0].taken_s <= driver.snapshots()[1].taken_s
    assert all(snapshot.size > 0 for snapshot in driver.snapshots())
    with pytest.raises(InvalidStateError):
        driver.restore_snapshot("first")
    driver.save()
    driver.restore_snapshot("2")
    assert driver.state() == MachineState.STOPPED
    machine.boot()
    driver.delete_snapshot("first")
    assert driver.state() == MachineState.RUNNING
    driver.kill()
    driver.delete_snapshot("2")
    assert machine_snapshots(machine) == []
    machine.boot()
    driver.take_snapshot("last")
    driver.delete()
    assert driver.state() == MachineState.ABSENT


def machine_snapshots(machine: Case) -> list[Snapshot]:
    """Return the snapshots as another process of b2d sees them."""
    return machine.driver().snapshots()


def test_limitations_are_single_lines(case: Case) -> None:
    driver = case.driver()
    assert all(line and "\n" not in line for line in driver.limitations())
