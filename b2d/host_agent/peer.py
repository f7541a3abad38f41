"""Tell whose connection to a TCP port of this host it is: loopback is open to every user, container and web page.

Sources of outside facts: proc(5), /proc/net/tcp and tcp6 (fields of a row: local and remote address in hexadecimal,
each four bytes in the host's order; state; uid; inode, which is 0 for a socket that no process has any more). A program
that speaks IPv4 through a socket of IPv6, as Java's do, is in tcp6, its address mapped (RFC 4291, 2.5.5.2). The
descriptors of a process that has or had more rights, as VirtualBox's setuid programs, are root's to see (prctl(2),
PR_SET_DUMPABLE). Its name is bytes of anybody's choice.
"""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from b2d.host_agent import sock_diag

PROC = Path("/proc")
# programs that carry what a guest or a container sends to this host's loopback: their owner did not ask for it
RELAYS = (
    *("qemu-system-", "qemu-kvm", "VBoxHeadless", "VirtualBoxVM", "VBoxNetNAT", "slirp4netns", "rootlessport"),
    *("passt", "pasta", "gvproxy", "vpnkit", "vmnet-helper", "com.docker.", "limactl"),
)
MAPPED = "0" * 16 + f"{int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder):08X}"
ASK_S = 5.0
NAME_LIMIT = 15  # signs of a process's name that Linux keeps
RELAYED = tuple(carrier[:NAME_LIMIT] for carrier in RELAYS)
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
    except (OSError, ValueError):  # /proc is not to be seen here, or not as it should be
        return False


def can_identify(platform: str = sys.platform) -> bool:
    """Tell whether this host says whose a connection is, by one of this process to itself."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(ASK_S)
            with socket.create_connection(listener.getsockname()[:2], ASK_S), listener.accept()[0] as connection:
                return is_owner(connection, platform)
    except OSError:
        return False


def _is_owner_by_proc(peer: Address, here: Address) -> bool:
    try:
        row = sock_diag.find(peer, here)
    except OSError:
        row = _row_of_proc(peer, here)
    return row is not None and row.inode != 0 and row.uid in (os.getuid(), 0) and not _is_relayed(row)


def _row_of_proc(peer: Address, here: Address) -> sock_diag.Row | None:
    ends = _in_hexadecimal(peer), _in_hexadecimal(here)
    either = ends, (MAPPED + ends[0], MAPPED + ends[1])
    return next((sock_diag.Row(int(row[7]), int(row[9])) for row in _rows() if (row[1], row[2]) in either), None)


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


def _is_relayed(row: sock_diag.Row) -> bool:
    """Tell whether a program of CARRIERS has that socket.

    One that cannot be looked into has it, if it is of the socket's user and nobody else is seen to have it.
    """
    wanted = f"socket:[{row.inode}]"
    hidden = False
    for process in _processes():
        if not _is_relay(process):
            continue
        found = _sockets(process)
        if found is None:
            hidden = hidden or row.uid in _users(process)
        elif wanted in found:
            return True
    return hidden and not any(wanted in (_sockets(one) or ()) for one in _processes() if not _is_relay(one))


def _processes() -> Iterator[Path]:
    return (process for process in PROC.iterdir() if process.name.isdigit())


def _is_relay(process: Path) -> bool:
    try:
        name = (process / "comm").read_bytes().rstrip(b"\n").decode(errors="replace")
    except OSError:
        return False
    return name.lstrip(".").startswith(RELAYED)  # a wrapped program's name begins with a dot (NixOS)


def _users(process: Path) -> list[int]:
    """The real, effective, saved and file system's uid."""
    try:
        lines = (process / "status").read_bytes().split(b"\n")
    except OSError:
        return []
    return [int(word) for line in lines if line.startswith(b"Uid:") for word in line.split()[1:]]


def _sockets(process: Path) -> set[str] | None:
    """What its descriptors lead to; None where nobody may look."""
    found = set()
    try:
        for descriptor in os.scandir(process / "fd"):
            try:
                found.add(os.readlink(descriptor.path))  # noqa: PTH115  thousands of them
            except FileNotFoundError:
                continue
    except PermissionError:
        return None
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
            return _is_this_users(process) and not name.lstrip(".").startswith(RELAYS)
    return False


def _is_this_users(process: object) -> bool:
    import psutil

    try:
        return bool(process.username() == psutil.Process().username())  # type: ignore[attr-defined]
    except psutil.Error:
        return False
