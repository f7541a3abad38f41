"""Choose a machine's loopback address and ports; binding a port shows whether it is free."""

import errno
import os
import socket
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from b2d.errors import B2dError, PortInUseError

PREFIX = "127.0.59."  # 192.168.59.103 was the address of 2014
FIRST, LAST = 103, 254
NEARBY = 500  # ports tried above the preferred one
HIGHEST_PORT = 65535
EVERYWHERE = ("0.0.0.0", "::")
LOOPBACK = "127.0.0.1"
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def is_free(address: str, port: int, protocol: str = "tcp") -> bool:
    """Return whether a hypervisor could listen there, and would not hide a server on IPv6."""
    return _obstacle(address, port, KINDS[protocol]) is None


def privileged_port_obstacle(address: str, port: int) -> str:
    """Return why a container's port is not opened there by default, "" where it may be.

    Root could open every port. On 127.0.0.1 privileged ports are left to this host's own services, as the kernel does
    for ordinary users; on a machine's own address nobody expects such a service.
    """
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root and address == LOOPBACK and port < _first_unprivileged():
        return "ports below 1024 need privileged_ports = true when b2d runs as root"
    return ""


def _first_unprivileged() -> int:
    """Return the first port that Linux lets every user open; 1024 elsewhere."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def listening_process(address: str, port: int) -> int:
    """Return the pid of the process that listens there; 0 if none is known: this host may hide other users'."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            is_match = local and local.port == port and local.ip in (address, *EVERYWHERE)
            if is_match and connection.status == psutil.CONN_LISTEN and connection.pid:
                return int(connection.pid)
    except (psutil.Error, OSError):
        pass
    return 0


def port_holder(address: str, port: int) -> str:
    """Return the program that listens there, as far as this host shows it to the user."""
    import psutil

    pid = listening_process(address, port)
    try:
        return f"{psutil.Process(pid).name()}, pid {pid}" if pid else "another program"
    except psutil.Error:
        return "another program"


def port_obstacle(address: str, port: int, protocol: str) -> str:
    """Return the reason for which a hypervisor cannot listen there, "" for none."""
    error = _obstacle(address, port, KINDS[protocol])
    if error is None:
        return ""
    if error.errno == errno.EADDRINUSE:
        return f"{port_holder(address, port)} has this port"
    return str(error.strerror)


def require_free(address: str, ports: Iterable[int]) -> None:
    """Raise PortInUseError naming the port unless a hypervisor can listen on all of them."""
    for port in ports:
        if not is_free(address, port):
            raise PortInUseError(f"port {port} of {address} is used by another program", hint="b2d config")


def pick_address(taken: Collection[str], ports: Iterable[int], platform: str = sys.platform) -> str:
    """Return an address for a new machine: the first one not in `taken` with all `ports` free.

    Where something listens on one of the ports on every address, the first one not in `taken`. Raises B2dError when all
    are taken. macOS has only one loopback address unless root adds more.
    """
    if platform == "darwin":
        return "127.0.0.1"
    candidates = [f"{PREFIX}{last}" for last in range(FIRST, LAST + 1)]
    candidates = [address for address in candidates if address not in taken]
    if not candidates:
        raise B2dError("all loopback addresses are used by machines", hint="b2d list")
    needed = list(ports)
    return next((address for address in candidates if all(is_free(address, port) for port in needed)), candidates[0])


def reserve_ports(address: str, preferred: int, avoid: Collection[int] = ()) -> int:
    """Return `preferred` or the next port that is free and not in `avoid`. Raises B2dError when none is."""
    obstacle = None
    for port in range(preferred, min(preferred + NEARBY, HIGHEST_PORT) + 1):
        if port in avoid:
            continue
        obstacle = _obstacle(address, port)
        if obstacle is None:
            return port
    reason = obstacle.strerror if obstacle else "all are used by other machines"
    raise B2dError(f"no port from {preferred} up can be opened on {address}: {reason}", hint="b2d config")


def _obstacle(address: str, port: int, kind: int = socket.SOCK_STREAM) -> OSError | None:
    """Return the error that keeps a server from listening there, None for none.

    With SO_REUSEADDR, as QEMU and VirtualBox listen: without it a port counts as used for a minute after its last
    connection (TIME_WAIT). On Windows the option means something else: there it would steal the port.
    """
    with socket.socket(socket.AF_INET, kind) as probe:
        if sys.platform == "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        elif kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as error:
            return error
    return _obstacle_on_ipv6(port, kind) if address == LOOPBACK else None


def _obstacle_on_ipv6(port: int, kind: int) -> OSError | None:
    """Return the error where another server has the port on IPv6, by which localhost reaches it too."""
    if not socket.has_ipv6:
        return None
    with socket.socket(socket.AF_INET6, kind) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM and sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("::", port))  # without listen(): nobody can connect to it
        except OSError as error:
            return error if error.errno == errno.EADDRINUSE else None
    return None
