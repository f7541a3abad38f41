"""Ports of a running machine are forwarded and removed by a real VirtualBox."""

import socket
from contextlib import suppress

import pytest

from b2d.errors import HypervisorError, InvalidStateError
from b2d.host.polling import wait_until
from b2d.models import Forward
from b2d.network import port_allocation
from tests.support.virtualbox_case import VirtualBoxCase, vboxmanage

pytestmark = pytest.mark.virtualbox


def a_port(machine: VirtualBoxCase, protocol: str = "tcp") -> Forward:
    """Return a forward with a free port."""
    return Forward(protocol, machine.spec.address, port_allocation.reserve_ports(machine.spec.address, 30000))


def is_open(forward: Forward) -> bool:
    """Return True when the port accepts connections. The tiny guest cannot answer, but the hypervisor does."""
    with suppress(OSError), socket.create_connection((forward.address, forward.port), 2):
        return True
    return False


def test_a_forwarded_port_is_open_until_it_is_removed(machine: VirtualBoxCase) -> None:
    web = a_port(machine)
    with pytest.raises(InvalidStateError):
        machine.driver().add_forward(web)
    machine.driver().start()
    machine.driver().add_forward(web)
    assert machine.driver().forwards() == [web]
    wait_until(lambda: is_open(web), condition="the port", timeout_s=5)
    machine.driver().remove_forward(web)
    assert machine.driver().forwards() == []
    wait_until(lambda: not is_open(web), condition="the port to be shut", timeout_s=5)


def test_each_kind_of_forward_is_recognised_and_the_ports_of_the_machine_stay(machine: VirtualBoxCase) -> None:
    machine.driver().start()
    before = machine.driver().endpoint()
    web = a_port(machine)
    kinds = [web, Forward("tcp", "127.0.0.1", web.port, inward=True), Forward("udp", "127.0.0.1", web.port)]
    for forward in kinds:
        machine.driver().add_forward(forward)
    assert set(machine.driver().forwards()) == set(kinds)
    listing = vboxmanage("showvminfo", machine.spec.name, "--machinereadable")
    assert f",tcp,127.0.0.1,{web.port},10.0.2.127,{web.port}" in listing
    assert f",udp,127.0.0.1,{web.port},10.0.2.128,{web.port}" in listing
    assert machine.driver().endpoint() == before


def test_a_port_in_use_is_refused_with_its_number(machine: VirtualBoxCase) -> None:
    machine.driver().start()
    web = a_port(machine)
    with socket.create_server((web.address, web.port)), pytest.raises(HypervisorError, match=f"port {web.port}"):
        machine.driver().add_forward(web)
    assert machine.driver().forwards() == []


def test_forwards_of_a_killed_machine_are_absent_after_the_next_start(machine: VirtualBoxCase) -> None:
    web = a_port(machine)
    machine.driver().start()
    machine.driver().add_forward(web)
    machine.driver().kill()
    machine.driver().start()
    assert machine.driver().forwards() == []
    assert not is_open(web)
