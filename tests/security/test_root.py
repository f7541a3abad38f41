"""b2d as root of this host: one note, and nothing is opened that an ordinary user could not open."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from b2d.docker.client import DockerApi
from b2d.host_agent.port_publisher import PortForwarder
from b2d.models import Forward
from b2d.network import port_allocation
from tests.integration.host_agent.test_port_publisher import HERE, Docker, Hypervisor
from tests.support.cli import Prompt
from tests.support.fake_machine import Box
from tests.support.kernel_images import an_iso
from tests.unit.docker.test_published_ports import container, port


@pytest.mark.parametrize(("user", "folders", "count"), [(0, (), 1), (0, ("/data",), 1), (1000, ("/data",), 0)])
def test_root_gets_a_note_when_a_machine_is_created(
    box: Box, monkeypatch: pytest.MonkeyPatch, user: int, folders: tuple[str, ...], count: int
) -> None:
    monkeypatch.setattr("b2d.machine.lifecycle.os", SimpleNamespace(geteuid=lambda: user))
    box.create_machine(folders=folders)
    notes = box.reporter.texts("note")
    assert len(notes) == count
    assert ["containers write to its shared folders" in text for text in notes] == [bool(folders)] * count


def test_root_gets_a_note_once_and_not_at_every_command(tmp_path: Path) -> None:
    iso = tmp_path / "new.iso"
    iso.write_bytes(an_iso("b2d-v26.1.5"))
    prompt = Prompt(tmp_path, {"B2D_DRIVER": "qemu", "B2D_IMAGE": str(iso), "B2D_MEMORY": "640"})
    first, second = prompt.b2d("init"), prompt.b2d("init")
    assert first.err.count("was created by root") == (os.geteuid() == 0)
    assert "root" not in second.err


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def docker() -> Iterator[Docker]:
    started = Docker()
    yield started
    started.close()


def lead(docker: Docker, hypervisor: Hypervisor, *, privileged_ports: bool = False) -> PortForwarder:
    return PortForwarder(hypervisor, DockerApi(HERE, docker.port, None), privileged_ports)


@pytest.mark.parametrize("number", [53, 80, 443, 631])
def test_root_opens_no_privileged_port_for_a_container(docker: Docker, root: None, number: int) -> None:
    docker.set_containers(container("web", port(number, number, "127.0.0.1")))
    hypervisor = Hypervisor()
    assert lead(docker, hypervisor).reconcile()
    assert hypervisor.has == set()
    assert "privileged_ports" in port_allocation.privileged_port_obstacle("127.0.0.1", number)
    hypervisor.has = {Forward("tcp", "127.0.0.1", number, inward=True)}  # by an older b2d, or with a removed setting
    assert lead(docker, hypervisor).reconcile()
    assert hypervisor.has == set()


def test_the_setting_allows_privileged_ports_for_root(docker: Docker, root: None) -> None:
    docker.set_containers(container("web", port(80, 1023, "127.0.0.1")), container("app", port(80, 23081, "127.0.0.1")))
    hypervisor = Hypervisor()
    assert lead(docker, hypervisor).reconcile()
    assert {forward.port for forward in hypervisor.has} == {23081}
    lead(docker, hypervisor, privileged_ports=True).reconcile()
    assert {forward.port for forward in hypervisor.has} == {1023, 23081}


def test_ports_of_a_private_address_and_of_ordinary_users_are_not_restricted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert port_allocation.privileged_port_obstacle("127.0.59.103", 80) == ""
    assert port_allocation.privileged_port_obstacle("127.0.0.1", 8080) == ""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert port_allocation.privileged_port_obstacle("127.0.0.1", 80) == ""  # the kernel decides


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("where", ["::", "::1"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_service_of_this_host_on_ipv6_keeps_its_port(docker: Docker, where: str, protocol: str) -> None:
    with socket.socket(socket.AF_INET6, port_allocation.KINDS[protocol]) as service:
        service.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        service.bind((where, 0))
        if protocol == "tcp":
            service.listen()
        taken = service.getsockname()[1]
        docker.set_containers(container("web", port(80, taken, "127.0.0.1", protocol)))
        hypervisor = Hypervisor()
        assert not lead(docker, hypervisor).reconcile()
        assert hypervisor.has == set()
        assert "has this port" in port_allocation.port_obstacle("127.0.0.1", taken, protocol)
        assert port_allocation.is_free("127.0.59.103", taken, protocol)
    assert lead(docker, hypervisor).reconcile()
    assert [forward.port for forward in hypervisor.has] == [taken]


def test_a_service_on_the_same_address_keeps_its_port(docker: Docker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        taken = service.getsockname()[1]
        docker.set_containers(container("web", port(80, taken, "127.0.0.1")))
        hypervisor = Hypervisor()
        assert not lead(docker, hypervisor).reconcile()
        assert hypervisor.has == set()
