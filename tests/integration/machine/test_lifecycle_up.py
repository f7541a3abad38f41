"""The steps of up until Docker answers, and the files that it leaves for shellinit and ip."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from b2d.errors import B2dError, HypervisorError, ImageError, PortInUseError, WaitTimeoutError
from b2d.machine.lifecycle import PORT_ATTEMPTS, Machine
from b2d.models import DockerEnv, MachineState
from tests.support.fake_machine import ADDRESS, DOCKER, SSH, Box, ListeningDriver, host_of
from tests.support.fakes import a_spec
from tests.support.timing import not_waiting_for

STAGES = [f"b2d: {second}.0 {name}" for second, name in enumerate(("kernel", "root", "disk", "network", "ssh"))]
LAST = "b2d: 9.0 docker"


def test_up_ends_when_docker_answers_and_records_the_endpoint(box: Box) -> None:
    facts = box.create_machine().up()
    assert (facts.address, facts.ssh_port, facts.docker_port) == (ADDRESS, SSH, DOCKER)
    assert facts.docker == DockerEnv(host_of(box))
    assert facts.process == box.driver().process()
    assert box.store.read_env("box") == facts


def test_with_tls_only_the_docker_with_the_certificates_of_the_machine_is_accepted(box: Box) -> None:
    facts = box.create_machine(tls=True).up()
    assert facts.docker == DockerEnv(f"tcp://{ADDRESS}:{DOCKER}", str(box.paths.certs))
    assert box.machine().answers(2) is not None
    (box.paths.certs / "ca.pem").unlink()
    assert box.machine().answers(2) is None


def test_each_stage_of_the_boot_is_a_step(box: Box) -> None:
    box.hypervisor.script = [*STAGES, LAST]
    box.create_machine().up()
    assert box.reporter.texts("step") == [
        "kernel",
        "root file system",
        "data disk",
        "network",
        "ssh server",
        "Docker daemon",
        "Docker API",
    ]


@pytest.mark.parametrize(
    ("verb", "call"), [("stop", "stop"), ("save", "save"), ("poweroff", "kill"), ("delete", "delete")]
)
def test_the_env_file_is_removed_before_the_machine_ends(box: Box, verb: str, call: str) -> None:
    machine = box.in_state(MachineState.RUNNING)
    assert box.paths.env.exists()
    getattr(machine, verb)()
    assert box.pointed_at[0] == (call, False)


def test_there_is_no_env_file_while_the_machine_starts(box: Box) -> None:
    machine = box.in_state(MachineState.CRASHED)
    assert box.paths.env.exists()
    box.docker_answers = False
    box.wait_s = 0.2
    with pytest.raises(WaitTimeoutError):
        box.machine().up()
    assert not box.paths.env.exists()
    box.docker_answers = True
    machine.up()
    assert box.paths.env.exists()


def test_a_timeout_of_up_leaves_the_machine_running_for_the_next_one(box: Box) -> None:
    box.docker_answers = False
    box.wait_s = 0.2
    box.create_machine()
    with pytest.raises(WaitTimeoutError) as caught:
        box.machine().up()
    assert caught.value.exit_code == 5
    box.docker_answers = True
    assert box.machine().up().address == ADDRESS
    assert box.hypervisor.machines["box"].boots == 1


def test_a_machine_that_fails_to_start_leaves_a_screenshot(box: Box) -> None:
    box.docker_answers, box.wait_s = False, 0.2
    with pytest.raises(WaitTimeoutError) as failure:
        box.create_machine().up()
    assert failure.value.message.endswith(f"its screen: {box.paths.screen}")
    assert box.paths.screen.read_bytes().startswith(b"\x89PNG")


def test_a_crash_during_the_boot_is_reported_at_once_and_the_next_up_succeeds(box: Box) -> None:
    box.hypervisor.script, box.hypervisor.dies_after = [*STAGES, "Kernel panic - not syncing"], 6
    box.docker_answers = False
    box.create_machine()
    with not_waiting_for(4), pytest.raises(B2dError, match="crashed") as caught:
        box.machine().up()
    assert caught.value.exit_code == 1
    assert "Kernel panic" in caught.value.details
    box.hypervisor.dies_after, box.docker_answers = None, True
    box.hypervisor.script = [*STAGES, LAST]
    box.machine().up()
    assert box.machine().state() == MachineState.RUNNING


def test_a_newer_image_is_used_at_a_cold_start_and_the_disk_stays(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    stored = box.hypervisor.machines["box"]
    newer = box.add_newer_image()
    machine.up()
    assert machine.spec() == box.spec(image=newer.sha256, previous="0" * 64)
    assert box.images.verified == [newer.sha256]
    assert box.hypervisor.machines["box"] is stored
    assert any(newer.version in note for note in box.reporter.texts("note"))


@pytest.mark.parametrize("state", [MachineState.SAVED, MachineState.PAUSED, MachineState.RUNNING])
def test_a_newer_image_is_not_used_until_the_next_boot(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    newer = box.add_newer_image()
    machine.up()
    assert machine.spec().image == "0" * 64
    machine.restart()
    assert machine.spec().image == newer.sha256


def save_with_older_hardware(box: Box) -> Machine:
    machine = box.in_state(MachineState.SAVED)
    box.store.write(box.spec(engine_port=0, hardware=1))
    return machine


def test_a_machine_saved_by_an_older_b2d_keeps_its_hardware_until_it_boots(box: Box) -> None:
    machine = save_with_older_hardware(box)
    assert machine.up().docker == DockerEnv(f"tcp://{ADDRESS}:{DOCKER}")
    assert machine.spec() == box.spec(engine_port=0, hardware=1)
    assert box.hypervisor.machines["box"].resumes == 1
    assert machine.restart().docker == DockerEnv(host_of(box))
    assert machine.spec() == box.spec()


def test_a_machine_with_an_unusable_state_boots_with_the_current_hardware(box: Box) -> None:
    machine = save_with_older_hardware(box)
    newer = box.add_newer_image()
    box.hypervisor.state_fits = False
    assert machine.up().docker == DockerEnv(host_of(box))
    assert machine.spec() == box.spec(image=newer.sha256, previous="0" * 64)
    assert box.reporter.texts("warn") == []


def test_an_image_of_another_source_is_not_used(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    box.images.sources["2" * 64] = "boot2docker"
    machine.up()
    assert machine.spec().image == "0" * 64


def test_a_damaged_image_is_not_booted(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    box.images.damaged.add("0" * 64)
    with pytest.raises(ImageError) as caught:
        machine.up()
    assert caught.value.exit_code == 7
    assert machine.state() == MachineState.STOPPED


def test_a_missing_image_is_reported_with_a_hint(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    box.images.sources.clear()
    with pytest.raises(B2dError) as caught:
        machine.up()
    assert caught.value.hint == "b2d download"


@pytest.mark.parametrize("state", [MachineState.STOPPED, MachineState.SAVED, MachineState.CRASHED])
def test_ports_in_use_are_replaced_permanently(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    with socket.create_server((ADDRESS, DOCKER)):
        facts = machine.up()
        assert facts.docker_port == DOCKER + 1
        assert machine.spec().docker_port == DOCKER + 1
        assert any(f"port {DOCKER}" in note for note in box.reporter.texts("note"))
        machine.stop()
    assert machine.up().docker_port == DOCKER + 1


def test_a_panicked_guest_gets_its_own_ports_again(box: Box) -> None:
    machine = box.in_state(MachineState.RUNNING)
    box.driver().panic()
    assert machine.up().docker_port == DOCKER
    assert not [text for text in box.reporter.texts("note") if "port" in text and "taken" in text]


def test_a_port_of_another_machine_at_the_same_address_is_not_used(box: Box) -> None:
    box.store.write(a_spec("other", address=ADDRESS, ssh_port=SSH, docker_port=SSH + 1))
    assert box.create_machine().up().ssh_port == SSH + 2


def test_a_machine_that_is_stopping_when_up_starts_is_started_again(box: Box) -> None:
    """QEMU reports a running guest until it has powered off."""
    machine = box.in_state(MachineState.RUNNING)
    box.docker_answers = False

    def stop_later() -> None:
        time.sleep(0.3)
        box.driver().stop()
        box.docker_answers = True

    thread = threading.Thread(target=stop_later)
    thread.start()
    machine.up()
    thread.join()
    assert box.hypervisor.machines["box"].boots == 2


def test_a_machine_that_stops_while_up_waits_is_started_again(box: Box) -> None:
    box.in_state(MachineState.STOPPING)
    box.looks_until_off = 2
    box.stop_wait_s = 5
    box.machine().up()
    assert box.reporter.texts("warn") == []
    assert box.hypervisor.machines["box"].boots == 2


@pytest.mark.parametrize("state", [MachineState.SAVED, MachineState.PAUSED])
def test_a_clock_that_stopped_during_a_save_or_pause_is_set(box: Box, state: MachineState) -> None:
    machine = box.in_state(state)
    box.clock_ahead_s = -3600
    machine.up()
    assert abs(box.clock_ahead_s) <= 2
    assert any("clock" in note for note in box.reporter.texts("note"))


def test_the_clock_of_a_booted_machine_is_not_set(box: Box) -> None:
    box.clock_ahead_s = -3600
    box.create_machine().up()
    assert box.guest.commands == []


@pytest.mark.parametrize("state", [MachineState.SAVED, MachineState.PAUSED, MachineState.RUNNING])
def test_a_resumed_machine_is_pinged_at_once_despite_its_empty_console(box: Box, state: MachineState) -> None:
    """A resumed guest reports no stage, at this up and at the next one."""
    machine = box.in_state(state)
    box.hypervisor.script = []
    box.hypervisor.machines["box"].console = ""
    with not_waiting_for(6):
        machine.up()


def test_an_unusable_hypervisor_is_reported_before_the_start(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    box.hypervisor.unusable = HypervisorError("there is none", hint="b2d doctor --fix")
    with pytest.raises(HypervisorError):
        machine.up()
    assert box.calls == ["check"]


def test_limitations_are_reported_at_the_start_and_not_while_the_machine_runs(box: Box) -> None:
    box.hypervisor.limitations = ["one CPU only"]
    machine = box.create_machine()
    machine.up()
    machine.up()
    assert box.reporter.texts("note").count("one CPU only") == 1


def test_a_file_that_cannot_be_written_is_reported(box: Box) -> None:
    machine = box.in_state(MachineState.STOPPED)
    box.paths.seed.mkdir()
    with pytest.raises(B2dError, match=r"seed\.img"):
        machine.up()


@contextmanager
def rivals(monkeypatch: pytest.MonkeyPatch, times: int) -> Iterator[None]:
    """Have other programs take the Docker port, so many times, between the choice of the port and the start."""
    start = ListeningDriver.start
    servers: list[socket.socket] = []

    def start_after_rival(driver: ListeningDriver) -> None:
        if len(servers) < times:
            servers.append(socket.create_server((driver.spec.address, driver.spec.docker_port)))
            raise PortInUseError(f"port {driver.spec.docker_port} is used")
        start(driver)

    monkeypatch.setattr(ListeningDriver, "start", start_after_rival)
    yield
    for server in servers:
        server.close()


@pytest.mark.parametrize("state", [MachineState.STOPPED, MachineState.SAVED])
def test_up_chooses_other_ports_when_a_rival_has_its_own(
    box: Box, monkeypatch: pytest.MonkeyPatch, state: MachineState
) -> None:
    machine = box.in_state(state)
    with rivals(monkeypatch, times=2):
        facts = machine.up()
    assert facts.docker_port == machine.spec().docker_port > DOCKER + 1
    assert [text for text in box.reporter.texts("note") if "is now" in text] == [
        f"port {DOCKER + number} of {ADDRESS} is in use: the docker port of box is now {DOCKER + number + 1}"
        for number in range(2)
    ]
    assert box.hypervisor.machines["box"].resumes == (state == MachineState.SAVED)


def test_up_ends_when_its_ports_are_always_taken(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = box.create_machine()
    with rivals(monkeypatch, PORT_ATTEMPTS), pytest.raises(PortInUseError) as caught:
        machine.up()
    assert caught.value.exit_code == HypervisorError.exit_code
    assert machine.state() == MachineState.STOPPED
