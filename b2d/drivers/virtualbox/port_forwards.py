"""Port forwards of a running VirtualBox machine: rules of its NAT, which can change while it runs.

VirtualBox accepts a rule for a port that another program has, and forwards nothing: so that is checked first (seen on
7.2).
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

# names of b2d's rules: protocol, address and port on this host, and whether they lead to the guest's loopback
RULE = re.compile(r"b2d-port-(tcp|udp)-([0-9.]+)-([0-9]{1,5})(-inward)?")


def parse_rules(rules: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Yield name, address and port on this host of each rule; a user's own rules may have any name and port."""
    for rule in rules:
        name, *fields = rule.rsplit(",", 5)
        if len(fields) == 5:
            with suppress(ValueError):
                yield name, fields[1], numbers.parse(fields[2], 65535)


def list_forwards(machine: "VirtualBoxMachine") -> list[Forward]:
    """Return b2d's own forwards."""
    matches = [RULE.fullmatch(name) for name, _, _ in machine.forwards()]
    ours = [Forward(match[1], match[2], int(match[3]), inward=bool(match[4])) for match in matches if match]
    return [forward for forward in ours if 0 < forward.port < 1 << 16]


def add_forward(machine: "VirtualBoxMachine", forward: Forward) -> None:
    """Add a forward. Raises HypervisorError when the port cannot be opened."""
    if reason := port_allocation.port_obstacle(forward.address, forward.port, forward.protocol):
        raise HypervisorError(f"port {forward.port} on {forward.address} cannot be opened: {reason}")
    machine.adjust(hardware.add_forward(_name(forward), forward))


def remove_forward(machine: "VirtualBoxMachine", forward: Forward) -> None:
    """Remove a forward; open connections through it may end."""
    machine.adjust(hardware.remove_forwards([_name(forward)]))


def _name(forward: Forward) -> str:
    inward = "-inward" if forward.inward else ""
    return f"b2d-port-{forward.protocol}-{forward.address}-{forward.port}{inward}"
