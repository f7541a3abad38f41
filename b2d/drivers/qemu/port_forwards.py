"""Ports of this host that a running QEMU's own network leads into the guest, added and taken away while it runs."""

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers.qemu.qmp import Qmp
from b2d.errors import HypervisorError
from b2d.host.polling import wait_until
from b2d.models import GUEST_LOOPBACK_ADDRESS, Forward

if TYPE_CHECKING:
    import socket

NETWORK = "net"  # the -netdev of qemu_arguments.py
GUEST = "10.0.2.15"  # what QEMU's network gives the guest
# as `info usernet` lists them: protocol, number, address and port on this host, address and port in the guest
LINE = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)", re.ASCII)
# a connection that it has taken at a forward: the address and port of that on this host
TAKEN = re.compile(r"TCP\[(?!HOST_FORWARD)\w+\]\s+\d+\s+(\S+)\s+(\d+)\s")
ATTEMPTS = 5  # at a port that another program may take first
TAKEN_S = 5.0  # in which QEMU takes a connection; an emulated CPU keeps it busy
LOOK_S = 0.002


def list_forwards(socket: Path) -> list[Forward]:
    """Those that lead to the same port of the guest."""
    with Qmp(socket) as qmp:
        said = str(qmp.execute("human-monitor-command", command_line="info usernet"))
    return [
        Forward(protocol.lower(), address, int(port), inward=guest == GUEST_LOOPBACK_ADDRESS)
        for protocol, address, port, guest, inside in LINE.findall(said)
        if port == inside and len(port) <= 5 and 0 < int(port) < 1 << 16
    ]


def add_forward(socket: Path, forward: Forward) -> None:
    """Raises HypervisorError where the port cannot be had."""
    _say(socket, f"hostfwd_add {NETWORK} {_rule(forward)}-{forward.inside or GUEST}:{forward.port}", forward)


def remove_forward(socket: Path, forward: Forward) -> None:
    """What goes through it already goes on."""
    _say(socket, f"hostfwd_remove {NETWORK} {_rule(forward)}", forward)


def _rule(forward: Forward) -> str:
    return f"{forward.protocol}:{forward.address}:{forward.port}"


def _say(socket: Path, line: str, forward: Forward) -> None:
    with Qmp(socket) as qmp:
        said = str(qmp.execute("human-monitor-command", command_line=line)).strip()
    if said and "removed" not in said:
        raise HypervisorError(f"port {forward.port} of {forward.address} cannot be opened: {said}")


def dial(control: Path, address: str, port: int, timeout_s: float) -> "socket.socket":
    """Connect to a TCP port of the guest, through a forward that is there for that moment alone.

    Other users of this host could connect to a forward that stays; with this one they would have to be there within
    milliseconds, and each time they would have one connection that lets nobody in. Raises HypervisorError,
    WaitTimeoutError, and OSError.
    """
    for left in reversed(range(ATTEMPTS)):
        rule = f"tcp:{address}:{_free_port(address)}"
        with Qmp(control) as qmp:
            said = str(
                qmp.execute("human-monitor-command", command_line=f"hostfwd_add {NETWORK} {rule}-{GUEST}:{port}")
            )
            if said.strip():
                if left:
                    continue
                raise HypervisorError(f"no port of {address} can be opened: {said.strip()}")
            try:
                return _taken(qmp, address, int(rule.rpartition(":")[2]), timeout_s)
            finally:
                qmp.execute("human-monitor-command", command_line=f"hostfwd_remove {NETWORK} {rule}")
    raise AssertionError("the last attempt returns or raises")


def connected(address: str, port: int, timeout_s: float) -> "socket.socket":
    """Connect to a port of this host. Raises OSError."""
    import socket

    return socket.create_connection((address, port), timeout_s)


def _taken(qmp: Qmp, address: str, port: int, timeout_s: float) -> "socket.socket":
    """Connect, and return when QEMU has taken the connection: what waits to be taken ends with the forward."""
    connection = connected(address, port, timeout_s)

    def is_taken() -> bool:
        said = str(qmp.execute("human-monitor-command", command_line="info usernet"))
        return (address, str(port)) in TAKEN.findall(said)

    try:
        wait_until(
            is_taken, condition="QEMU to take a connection", timeout_s=min(timeout_s, TAKEN_S), interval_s=LOOK_S
        )
    except BaseException:
        with suppress(OSError):
            connection.close()
        raise
    return connection


def _free_port(address: str) -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port
