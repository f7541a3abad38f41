"""Tell whose connection to a TCP port of this host it is: loopback is open to every user, container and web page.

Sources of outside facts: proc(5), /proc/net/tcp and tcp6 (fields of a row: local and remote address in hexadecimal,
each four bytes in the host's order; state; uid; inode, which is 0 for a socket that no process has any more). A program
that speaks IPv4 through a socket of IPv6, as Java's do, is in tcp6, its address mapped (RFC 4291, 2.5.5.2).
"""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
# programs that carry what a guest or a container sends to this host's loopback: their owner did not ask for it
CARRIERS = (
    *("qemu-system-", "qemu-kvm", "VBoxHeadless", "VirtualBoxVM", "VBoxNetNAT", "slirp4netns", "rootlessport"),
    *("passt", "pasta", "gvproxy", "vpnkit", "vmnet-helper", "com.docker.", "limactl"),
)
MAPPED = "0" * 16 + f"{int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder):08X}"
ASK_S = 5.0
NAME_LIMIT = 15  # signs of a process's name that Linux keeps
Address = tuple[str, int]


def is_owner(connection: socket.socket, platform: str = sys.platform) -> bool:
    """Tell whether a program of this user, or root's, is at the other end, and none that speaks for a guest.

    False where nobody can tell. A program that has ended, or passed its end on to another user, is none.
    """
    try:
        peer, here = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:  # it has hung up
        return False
    if platform != "linux":
        return _is_owner_by_processes(peer, here)
    try:
        return _is_owner_by_proc(peer, here)
    except (OSError, ValueError):  # /proc is not to be seen here, or says what nobody knows
        return False


def tells(platform: str = sys.platform) -> bool:
    """Tell whether this host says whose a connection is, by one of this process to itself."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(ASK_S)
            with socket.create_connection(listener.getsockname()[:2], ASK_S), listener.accept()[0] as connection:
                return is_owner(connection, platform)
    except OSError:
        return False


def _is_owner_by_proc(peer: Address, here: Address) -> bool:
    ends = _in_hexadecimal(peer), _in_hexadecimal(here)
    for row in _rows():
        if (row[1], row[2]) in (ends, (MAPPED + ends[0], MAPPED + ends[1])):
            uid, inode = int(row[7]), row[9]
            return inode != "0" and uid in (os.getuid(), 0) and not _is_carried(inode)
    return False


def _rows() -> Iterator[list[str]]:
    """The TCP connections of this network namespace, as lists of fields."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        yield from (fields for line in lines if len(fields := line.split()) > 9)


def _in_hexadecimal(address: Address) -> str:
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"


def _is_carried(inode: str) -> bool:
    """Tell whether a program of CARRIERS has that socket; one of another user's cannot be looked into."""
    wanted = f"socket:[{inode}]"
    return any(wanted in _sockets(process) for process in _carriers())


def _carriers() -> Iterator[Path]:
    for process in PROC.iterdir():
        if not process.name.isdigit():
            continue
        try:
            name = os.fsdecode((process / "comm").read_bytes()).rstrip("\n")  # a program writes any bytes there
        except OSError:
            continue
        if any(name.startswith(carrier[:NAME_LIMIT]) for carrier in CARRIERS):
            yield process


def _sockets(process: Path) -> set[str]:
    found = set()
    try:
        for descriptor in os.scandir(process / "fd"):
            try:
                found.add(os.readlink(descriptor.path))  # noqa: PTH115  thousands of them
            except OSError:
                continue
    except OSError:
        return set()
    return found


def _is_owner_by_processes(peer: Address, here: Address) -> bool:
    """The same on macOS and Windows: a user may ask for the connections of processes of their own."""
    import psutil

    for process in psutil.process_iter(["name"]):
        try:
            ask = getattr(process, "net_connections", None) or process.connections
            ends = [(tuple(one.laddr), tuple(one.raddr)) for one in ask("tcp4")]
        except (psutil.Error, OSError):
            continue
        if (peer, here) in ends:
            name = process.info["name"] or ""
            return _is_this_users(process) and not name.startswith(CARRIERS)
    return False


def _is_this_users(process: object) -> bool:
    import psutil

    try:
        return bool(process.username() == psutil.Process().username())  # type: ignore[attr-defined]
    except psutil.Error:
        return False
