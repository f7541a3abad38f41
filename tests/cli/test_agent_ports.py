"""Ports on which the agent could not listen are reported by it to every command that names the machine's ports."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2d.guest import tls_certificates
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify, is_alive
from b2d.host_agent import control, report
from b2d.host_agent.report import DOCKER, DOCKER_SOCKET, SSH, Refusal
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import HARDWARE, DockerEnv
from b2d.network import port_allocation
from b2d.paths import Home, MachinePaths
from tests.support.fakes import a_spec

HERE = "127.0.59.248"


class AgentMachine:
    """A running machine according to its files, with a real agent and no hypervisor."""

    def __init__(self, folder: Path, machine: int) -> None:
        self.store = MachineStore(Home(folder / "home"))
        self.ssh = port_allocation.reserve_ports(HERE, 20000 + os.getpid() % 20000)
        self.docker = port_allocation.reserve_ports(HERE, self.ssh + 1)
        ports = {"ssh_port": self.ssh, "docker_port": self.docker, "engine_port": self.docker + 1}
        self.store.write(a_spec("box", address=HERE, tls=False, hardware=HARDWARE, **ports))
        tls_certificates.ensure_certificates(self.paths, [HERE], datetime.now(UTC))
        docker = DockerEnv(f"unix://{self.paths.docker_socket}")
        facts = RunningFacts(HERE, self.ssh, self.docker, docker, identify(machine), self.docker + 1)
        self.store.write_env("box", facts)

    @property
    def paths(self) -> MachinePaths:
        return self.store.home.machine("box")


@pytest.fixture
def agent_machine(tmp_path: Path, program: "subprocess.Popen[bytes]") -> Iterator[AgentMachine]:
    agent = AgentMachine(tmp_path, program.pid)
    yield agent
    control.stop(agent.paths)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HERE, port)) == 0


def test_when_the_agent_is_ready_all_its_ports_are_open(agent_machine: AgentMachine) -> None:
    assert control.wait_until_serving(agent_machine.store, "box") == ()
    assert is_open(agent_machine.ssh) and is_open(agent_machine.docker)
    assert control.refusals(agent_machine.paths) == ()
    assert control.wait_until_serving(agent_machine.store, "box") == ()  # returns at once for a running agent


@pytest.mark.parametrize("recorded", [None, "b2d.companion_main 0.0.9"], ids=["unrecorded", "recorded"])
def test_an_agent_of_another_version_is_replaced(agent_machine: AgentMachine, recorded: str | None) -> None:
    """Its modules may be deleted. Older agents did not record their program."""
    assert control.wait_until_serving(agent_machine.store, "box") == ()
    before = control._read_record(agent_machine.paths)
    assert before is not None
    document = json.loads(agent_machine.paths.agent_process.read_bytes())
    document |= {"program": recorded} if recorded else {}
    document = document if recorded else {key: value for key, value in document.items() if key != "program"}
    agent_machine.paths.agent_process.write_text(json.dumps(document))
    assert control.wait_until_serving(agent_machine.store, "box") == ()
    after = control._read_record(agent_machine.paths)
    assert after is not None
    assert is_alive(after.agent)
    assert not is_alive(before.agent)
    assert is_open(agent_machine.ssh) and is_open(agent_machine.docker)


@pytest.mark.parametrize("taken", [("ssh",), ("docker",), ("ssh", "docker")])
def test_a_port_in_use_by_another_program_is_reported_with_its_name(
    agent_machine: AgentMachine, taken: tuple[str, ...]
) -> None:
    services = {"ssh": SSH, "docker": DOCKER}
    others = [socket.create_server((HERE, getattr(agent_machine, name))) for name in taken]
    try:
        refused = control.wait_until_serving(agent_machine.store, "box")
    finally:
        for other in others:
            other.close()
    assert refused is not None
    assert {(refusal.service, refusal.place) for refusal in refused} == {
        (services[name], f"{HERE}:{getattr(agent_machine, name)}") for name in taken
    }
    assert all(refusal.reason.endswith(f"pid {os.getpid()} uses that port") for refusal in refused)
    log = agent_machine.paths.agent_log.read_text()
    assert all(refusal.sentence("box") in log for refusal in refused)
    assert control.refusals(agent_machine.paths) == refused


def test_a_socket_that_cannot_be_created_is_reported(agent_machine: AgentMachine) -> None:
    (agent_machine.paths.folder / "docker.sock.new").mkdir()  # blocks the socket's path
    refused = control.wait_until_serving(agent_machine.store, "box") or ()
    assert [(refusal.service, refusal.place) for refusal in refused] == [
        (DOCKER_SOCKET, str(agent_machine.paths.docker_socket))
    ]
    assert is_open(agent_machine.ssh)
    (agent_machine.paths.folder / "docker.sock.new").rmdir()


def test_an_agent_that_has_ended_has_no_report(agent_machine: AgentMachine) -> None:
    assert control.wait_until_serving(agent_machine.store, "box") == ()
    recorded = control._read_record(agent_machine.paths)
    assert recorded is not None
    os.kill(recorded.agent.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(recorded.agent), condition="its end", timeout_s=5)
    assert control.refusals(agent_machine.paths) is None


def test_an_agent_that_exits_without_a_report_is_not_waited_for(
    agent_machine: AgentMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "AGENT_MODULE", "b2d.no_such_module")
    assert control.wait_until_serving(agent_machine.store, "box") is None


def test_the_report_of_an_earlier_agent_is_ignored(agent_machine: AgentMachine) -> None:
    earlier = identify(os.getpid())
    assert earlier is not None
    report.write(agent_machine.paths.agent_report, earlier, [Refusal(SSH, "x", "y")])
    assert control.refusals(agent_machine.paths) is None
    assert control.wait_until_serving(agent_machine.store, "box") == ()
