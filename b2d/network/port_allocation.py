"""Which loopback address and ports a machine gets: what is free is found out by binding it."""

import errno
import os
import socket
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from b2d.errors import B2dError, HypervisorError

PREFIX = "127.0.59."  # 192.168.59.103 was the address of 2014
FIRST, LAST = 103, 254
NEARBY = 500  # ports tried beyond the one that was wanted
HIGHEST_PORT = 65535
EVERYWHERE = ("0.0.0.0", "::")
LOOPBACK = "127.0.0.1"
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def is_free(address: str, port: int, protocol: str = "tcp") -> bool:
    """True when a hypervisor could listen there now, and would take the place of nobody who listens on IPv6 alone."""
    return _obstacle(address, port, KINDS[protocol]) is None


def reserved(address: str, port: int) -> str:
    """Why a container's port is not opened there unasked, "" where it may be.

    Root could open every port. On this host's usual address those of its own services are left alone, as they are by
    an ordinary user, to whom the kernel refuses them; on a machine's own address nobody looks for such a service.
    """
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root and address == LOOPBACK and port < _first_unprivileged():
        return "below 1024, as root only with privileged_ports = true"
    return ""


def _first_unprivileged() -> int:
    """The first port that Linux lets everybody open; 1024 elsewhere."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def port_holder(address: str, port: int) -> str:
    """Who listens there, as far as this host tells whoever asks."""
    import psutil

    try:
        for one in psutil.net_connections("tcp"):
            here = one.laddr and one.laddr.port == port and one.laddr.ip in (address, *EVERYWHERE)
            if here and one.status == psutil.CONN_LISTEN and one.pid:
                return f"{psutil.Process(one.pid).name()}, pid {one.pid}"
    except (psutil.Error, OSError):  # others' processes are not for everybody
        pass
    return "another program"


def port_obstacle(address: str, port: int, protocol: str) -> str:
    """What keeps a hypervisor from listening there now, "" where nothing does."""
    error = _obstacle(address, port, KINDS[protocol])
    if error is None:
        return ""
    if error.errno == errno.EADDRINUSE:
        return f"{port_holder(address, port)} has this port"
    return str(error.strerror)


def require_free(address: str, ports: Iterable[int]) -> None:
    """Raise HypervisorError, naming the port, when a hypervisor could not listen on all of them."""
    for port in ports:
        if not is_free(address, port):
            raise HypervisorError(f"port {port} of {address} is taken by another program", hint="b2d config")


def pick_address(taken: Collection[str], ports: Iterable[int], platform: str = sys.platform) -> str:
    """An address for a new machine: the first that no machine in `taken` has and whose `ports` are all free.

    Where something listens on one of the ports on every address, the first that is not taken. Raises B2dError
    when all are taken. macOS has only one loopback address unless root adds more.
    """
    if platform == "darwin":
        return "127.0.0.1"
    candidates = [f"{PREFIX}{last}" for last in range(FIRST, LAST + 1)]
    candidates = [address for address in candidates if address not in taken]
    if not candidates:
        raise B2dError("all loopback addresses are taken by machines", hint="b2d list")
    wanted = list(ports)
    return next((address for address in candidates if all(is_free(address, port) for port in wanted)), candidates[0])


def reserve_ports(address: str, wanted: int, avoid: Collection[int] = ()) -> int:
    """`wanted` where it is free and not to be avoided, else the next port that is. Raises B2dError when none is."""
    obstacle = None
    for port in range(wanted, min(wanted + NEARBY, HIGHEST_PORT) + 1):
        if port in avoid:
            continue
        obstacle = _obstacle(address, port)
        if obstacle is None:
            return port
    reason = obstacle.strerror if obstacle else "all are given to other machines"
    raise B2dError(f"no port from {wanted} up can be opened on {address}: {reason}", hint="b2d config")


def _obstacle(address: str, port: int, kind: int = socket.SOCK_STREAM) -> OSError | None:
    """What keeps a server from listening there.

    With SO_REUSEADDR, as QEMU and VirtualBox listen: without it a port counts as taken for a minute after its
    last connection (TIME_WAIT). Windows gives the option another meaning, there it would steal the port.
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
    """Who listens on [::] or [::1] alone is reached by the name localhost too: that is not taken from them."""
    if not socket.has_ipv6:
        return None
    with socket.socket(socket.AF_INET6, kind) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM and sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("::", port))  # it never listens: nobody can connect to it
        except OSError as error:
            return error if error.errno == errno.EADDRINUSE else None
    return None
