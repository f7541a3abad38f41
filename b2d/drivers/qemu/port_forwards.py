"""Port forwards of QEMU's own network, added and removed while the machine runs."""

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

NETWORK = "net"  # the -netdev in command_line.py
GUEST = "10.0.2.15"  # the guest's address in QEMU's network
# a forward in `info usernet`: protocol, number, address and port on this host, address and port in the guest
LINE = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)", re.ASCII)
# a connection that QEMU has accepted at a forward: address and port on this host
ACCEPTED = re.compile(r"TCP\[(?!HOST_FORWARD)\w+\]\s+\d+\s+(\S+)\s+(\d+)\s")
ATTEMPTS = 5  # for a port that another program may take first
ACCEPT_S = 5.0  # for QEMU to accept a connection; an emulated CPU keeps it busy
POLL_S = 0.002


def list_forwards(socket: Path) -> list[Forward]:
    """Return the forwards that lead to the same port of the guest."""
    with Qmp(socket) as qmp:
        output = str(qmp.execute("human-monitor-command", command_line="info usernet"))
    return [
        Forward(protocol.lower(), address, int(port), inward=guest == GUEST_LOOPBACK_ADDRESS)
        for protocol, address, port, guest, inside in LINE.findall(output)
        if port == inside and len(port) <= 5 and 0 < int(port) < 1 << 16
    ]


def add_forward(socket: Path, forward: Forward) -> None:
    """Add a forward. Raises HypervisorError when the port cannot be opened."""
    _run_monitor_command(
        socket, f"hostfwd_add {NETWORK} {_rule(forward)}-{forward.inside or GUEST}:{forward.port}", forward
    )


def remove_forward(socket: Path, forward: Forward) -> None:
    """Remove a forward; open connections through it stay."""
    _run_monitor_command(socket, f"hostfwd_remove {NETWORK} {_rule(forward)}", forward)


def _rule(forward: Forward) -> str:
    return f"{forward.protocol}:{forward.address}:{forward.port}"


def _run_monitor_command(socket: Path, line: str, forward: Forward) -> None:
    with Qmp(socket) as qmp:
        output = str(qmp.execute("human-monitor-command", command_line=line)).strip()
    if output and "removed" not in output:
        raise HypervisorError(f"QEMU refused port {forward.port} on {forward.address}: {output}")


def dial(control: Path, address: str, port: int, timeout_s: float) -> "socket.socket":
    """Connect to a TCP port of the guest, through a forward that exists only for that moment.

    Other users of this host could connect to a permanent forward; to this one they would have to connect within
    milliseconds, and each time they would get one connection, to a service that admits nobody without a key. Raises
    HypervisorError, WaitTimeoutError and OSError.
    """
    for left in reversed(range(ATTEMPTS)):
        rule = f"tcp:{address}:{_free_port(address)}"
        with Qmp(control) as qmp:
            output = str(
                qmp.execute("human-monitor-command", command_line=f"hostfwd_add {NETWORK} {rule}-{GUEST}:{port}")
            )
            if output.strip():
                if left:
                    continue
                raise HypervisorError(f"QEMU cannot open a port on {address}: {output.strip()}")
            try:
                return _connect_accepted(qmp, address, int(rule.rpartition(":")[2]), timeout_s)
            finally:
                qmp.execute("human-monitor-command", command_line=f"hostfwd_remove {NETWORK} {rule}")
    raise AssertionError("the last attempt returns or raises")


def connect(address: str, port: int, timeout_s: float) -> "socket.socket":
    """Connect to a port of this host. Raises OSError."""
    import socket

    return socket.create_connection((address, port), timeout_s)


def _connect_accepted(qmp: Qmp, address: str, port: int, timeout_s: float) -> "socket.socket":
    """Connect, and return when QEMU has accepted the connection: one that still waits ends with the forward."""
    connection = connect(address, port, timeout_s)

    def is_accepted() -> bool:
        output = str(qmp.execute("human-monitor-command", command_line="info usernet"))
        return (address, str(port)) in ACCEPTED.findall(output)

    try:
        wait_until(
            is_accepted, condition="QEMU to accept a connection", timeout_s=min(timeout_s, ACCEPT_S), interval_s=POLL_S
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
