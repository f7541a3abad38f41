"""The owner of a connection to a TCP port of this host: all users, containers and web pages reach loopback.

Sources of outside facts: proc(5), /proc/net/tcp and tcp6 (fields of a row: local and remote address in hexadecimal,
each four bytes in the host's order; state; uid; inode, which is 0 for a socket that no process has any more). A program
that uses IPv4 through an IPv6 socket, as Java does, is in tcp6, its address mapped (RFC 4291, 2.5.5.2). Only root sees
the descriptors of a process that has or had more rights, as VirtualBox's setuid programs (prctl(2), PR_SET_DUMPABLE). A
process may choose any bytes as its name.
"""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from b2d.host_agent import sock_diag

PROC = Path("/proc")
# programs that relay a guest's or container's traffic to this host's loopback: their owner did not request it
RELAYS = (
    *("qemu-system-", "qemu-kvm", "VBoxHeadless", "VirtualBoxVM", "VBoxNetNAT", "slirp4netns", "rootlessport"),
    *("passt", "pasta", "gvproxy", "vpnkit", "vmnet-helper", "com.docker.", "limactl"),
)
MAPPED = "0" * 16 + f"{int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder):08X}"
ASK_S = 5.0
NAME_LIMIT = 15  # characters of a process's name that Linux keeps
RELAYED = tuple(name[:NAME_LIMIT] for name in RELAYS)
Address = tuple[str, int]


def is_owner(connection: socket.socket, platform: str = sys.platform) -> bool:
    """Tell whether a program of this user, or root's, is at the other end, and is no relay for a guest.

    False when this cannot be determined. A program that has ended, or passed its end on to another user, does not
    count.
    """
    try:
        peer, local = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:  # the peer has hung up
        return False
    if platform != "linux":
        return _is_owner_by_processes(peer, local)
    try:
        return _is_owner_by_proc(peer, local)
    except (OSError, ValueError):  # /proc is hidden or malformed
        return False


def can_identify(platform: str = sys.platform) -> bool:
    """Tell whether this host reveals the owner of a connection, by a connection of this process to itself."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(ASK_S)
            with socket.create_connection(listener.getsockname()[:2], ASK_S), listener.accept()[0] as connection:
                return is_owner(connection, platform)
    except OSError:
        return False


def _is_owner_by_proc(peer: Address, local: Address) -> bool:
    try:
        row = sock_diag.find(peer, local)
    except OSError:
        row = _row_of_proc(peer, local)
    return row is not None and row.inode != 0 and row.uid in (os.getuid(), 0) and not _is_relayed(row)


def _row_of_proc(peer: Address, local: Address) -> sock_diag.Row | None:
    ends = _in_hexadecimal(peer), _in_hexadecimal(local)
    either = ends, (MAPPED + ends[0], MAPPED + ends[1])
    return next((sock_diag.Row(int(row[7]), int(row[9])) for row in _rows() if (row[1], row[2]) in either), None)


def _rows() -> Iterator[list[str]]:
    """Yield the TCP connections of this network namespace, as lists of fields."""
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
    """Tell whether a program of RELAYS has that socket.

    A relay whose descriptors are hidden counts when it has the socket's user and no other process is seen to have the
    socket.
    """
    wanted = f"socket:[{row.inode}]"
    is_hidden = False
    for process in _processes():
        if not _is_relay(process):
            continue
        sockets = _sockets(process)
        if sockets is None:
            is_hidden = is_hidden or row.uid in _users(process)
        elif wanted in sockets:
            return True
    return is_hidden and not any(
        wanted in (_sockets(process) or ()) for process in _processes() if not _is_relay(process)
    )


def _processes() -> Iterator[Path]:
    return (process for process in PROC.iterdir() if process.name.isdigit())


def _is_relay(process: Path) -> bool:
    try:
        name = (process / "comm").read_bytes().rstrip(b"\n").decode(errors="replace")
    except OSError:
        return False
    return name.lstrip(".").startswith(RELAYED)  # a wrapped program's name begins with a dot (NixOS)


def _users(process: Path) -> list[int]:
    """Return the real, effective, saved and file system's uid."""
    try:
        lines = (process / "status").read_bytes().split(b"\n")
    except OSError:
        return []
    return [int(word) for line in lines if line.startswith(b"Uid:") for word in line.split()[1:]]


def _sockets(process: Path) -> set[str] | None:
    """Return the targets of its descriptors; None when they are hidden."""
    targets = set()
    try:
        for descriptor in os.scandir(process / "fd"):
            try:
                targets.add(os.readlink(descriptor.path))  # noqa: PTH115  thousands of them
            except FileNotFoundError:
                continue
    except PermissionError:
        return None
    except OSError:
        return set()
    return targets


def _is_owner_by_processes(peer: Address, local: Address) -> bool:
    """Tell the same on macOS and Windows: users may query the connections of their own processes."""
    import psutil

    for process in psutil.process_iter(["name"]):
        try:
            connections = getattr(process, "net_connections", None) or process.connections
            ends = [(tuple(entry.laddr), tuple(entry.raddr)) for entry in connections("tcp4")]
        except (psutil.Error, OSError):
            continue
        if (peer, local) in ends:
            name = process.info["name"] or ""
            return _is_this_users(process) and not name.lstrip(".").startswith(RELAYS)
    return False


def _is_this_users(process: object) -> bool:
    import psutil

    try:
        return bool(process.username() == psutil.Process().username())  # type: ignore[attr-defined]
    except psutil.Error:
        return False
