"""Ports of this host that a running QEMU's own network leads into the guest, added and taken away while it runs."""

import re
from pathlib import Path

from b2d.drivers.qmp import Qmp
from b2d.errors import HypervisorUnusable
from b2d.model import INWARD, Forward

NETWORK = "net"  # the -netdev of qemu_arguments.py
GUEST = "10.0.2.15"  # what QEMU's network gives the guest
# as `info usernet` lists them: protocol, number, address and port on this host, address and port in the guest
LINE = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)")


def listed(socket: Path) -> list[Forward]:
    """Those that lead to the same port of the guest."""
    with Qmp(socket) as qmp:
        said = str(qmp.execute("human-monitor-command", command_line="info usernet"))
    return [
        Forward(protocol.lower(), address, int(port), inward=guest == INWARD)
        for protocol, address, port, guest, inside in LINE.findall(said)
        if port == inside
    ]


def add(socket: Path, forward: Forward) -> None:
    """Raises HypervisorUnusable where the port cannot be had."""
    _say(socket, f"hostfwd_add {NETWORK} {_rule(forward)}-{forward.inside or GUEST}:{forward.port}", forward)


def remove(socket: Path, forward: Forward) -> None:
    """What goes through it already goes on."""
    _say(socket, f"hostfwd_remove {NETWORK} {_rule(forward)}", forward)


def _rule(forward: Forward) -> str:
    return f"{forward.protocol}:{forward.address}:{forward.port}"


def _say(socket: Path, line: str, forward: Forward) -> None:
    with Qmp(socket) as qmp:
        said = str(qmp.execute("human-monitor-command", command_line=line)).strip()
    if said and "removed" not in said:
        raise HypervisorUnusable(f"port {forward.port} of {forward.address} cannot be opened: {said}")
