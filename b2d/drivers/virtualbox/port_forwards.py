"""Ports of this host that VirtualBox leads into a machine that runs: rules of its NAT, which is told while it runs.

VirtualBox takes a rule for a port that another program has, and leads nothing: that is looked at first (seen on 7.2).
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from b2d.drivers.virtualbox import hardware
from b2d.errors import HypervisorError
from b2d.formats import numbers
from b2d.models import Forward
from b2d.network import port_allocation

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.machine import VirtualBoxMachine

# how ours are called: protocol, address and port on this host, and whether it leads to the guest's own loopback
RULE = re.compile(r"b2d-port-(tcp|udp)-([0-9.]+)-([0-9]{1,5})(-inward)?")


def parsed(rules: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Yield name, address and port on this host of each; a person's own may be called anything, and has any port."""
    for rule in rules:
        name, *fields = rule.rsplit(",", 5)
        if len(fields) == 5:
            with suppress(ValueError):
                yield name, fields[1], numbers.parse(fields[2], 65535)


def listed(machine: "VirtualBoxMachine") -> list[Forward]:
    """Those that are ours."""
    found = [RULE.fullmatch(name) for name, _, _ in machine.forwards()]
    ours = [Forward(one[1], one[2], int(one[3]), inward=bool(one[4])) for one in found if one]
    return [one for one in ours if 0 < one.port < 1 << 16]


def add(machine: "VirtualBoxMachine", forward: Forward) -> None:
    """Raises HypervisorError where the port cannot be had."""
    if why := port_allocation.port_obstacle(forward.address, forward.port, forward.protocol):
        raise HypervisorError(f"port {forward.port} of {forward.address} cannot be opened: {why}")
    machine.adjust(hardware.with_forward(_name(forward), forward))


def remove(machine: "VirtualBoxMachine", forward: Forward) -> None:
    """What goes through it already may end."""
    machine.adjust(hardware.without_forwards([_name(forward)]))


def _name(forward: Forward) -> str:
    inward = "-inward" if forward.inward else ""
    return f"b2d-port-{forward.protocol}-{forward.address}-{forward.port}{inward}"
