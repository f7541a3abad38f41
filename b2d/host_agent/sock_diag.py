"""A query of Linux for one TCP connection by its two ends: /proc/net/tcp grows with all connections of the host.

Sources of outside facts: sock_diag(7), netlink(7), linux/inet_diag.h (inet_diag_req_v2, inet_diag_msg). A kernel
without the module reports every connection as missing, so a connection of this process is queried first.
"""

import os
import socket
import struct
from functools import cache
from typing import NamedTuple

TIMEOUT_S = 5.0
SOCK_DIAG, BY_FAMILY, ERROR, REQUEST = 4, 20, 2, 1
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, process
REQUEST_BODY = struct.Struct("=BBBxI")  # family, protocol, extensions, states
ENDS = struct.Struct("!HH4s12x4s12x")  # local and remote port, addresses
ANY = struct.Struct("=III")  # interface, cookie
ANSWER = struct.Struct("=4s48sIIIII")  # family and so on; ends; expires, two queues, uid, inode
MAPPED = bytes(10) + b"\xff\xff"  # prefix of an IPv4 address in IPv6
Address = tuple[str, int]


class Row(NamedTuple):
    """The kernel's record of one side of a connection."""

    uid: int
    inode: int  # 0: no process has it any more


def find(local: Address, remote: Address) -> Row | None:
    """Return the side whose own end is `local`, None when there is none.

    Raises OSError when the kernel cannot be queried.
    """
    if not _is_available():
        raise OSError("the kernel does not report connections by netlink")
    return _query(local, remote)


@cache
def _is_available() -> bool:
    """Tell whether this kernel finds a connection of this process."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(TIMEOUT_S)
            with socket.create_connection(listener.getsockname()[:2], TIMEOUT_S) as client, listener.accept()[0]:
                row = _query(client.getsockname()[:2], client.getpeername()[:2])
                return row is not None and row.inode == os.fstat(client.fileno()).st_ino
    except (OSError, AttributeError):
        return False


def _query(local: Address, remote: Address) -> Row | None:
    ends = ENDS.pack(local[1], remote[1], socket.inet_aton(local[0]), socket.inet_aton(remote[0]))
    body = (
        REQUEST_BODY.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
        + ends
        + ANY.pack(0, 0xFFFFFFFF, 0xFFFFFFFF)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as netlink:
        netlink.settimeout(TIMEOUT_S)
        netlink.send(HEADER.pack(HEADER.size + len(body), BY_FAMILY, REQUEST, 1, 0) + body)
        answer = netlink.recv(1 << 16)
    if len(answer) < HEADER.size + ANSWER.size or HEADER.unpack_from(answer)[1] != BY_FAMILY:
        return None
    _, answer_ends, _, _, _, uid, inode = ANSWER.unpack_from(answer, HEADER.size)
    return Row(uid, inode) if _is_between(answer_ends, local, remote) else None  # the kernel may return a listener


def _is_between(answer_ends: bytes, local: Address, remote: Address) -> bool:
    ports = struct.unpack_from("!HH", answer_ends)
    addresses = answer_ends[4:20], answer_ends[20:36]
    expected = [socket.inet_aton(end[0]) for end in (local, remote)]
    actual = [address[12:] if address.startswith(MAPPED) else address[:4] for address in addresses]
    return ports == (local[1], remote[1]) and actual == expected
