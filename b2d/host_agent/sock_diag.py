"""Ask Linux for one TCP connection by its two ends: /proc/net/tcp is longer the more connections anybody has.

Sources of outside facts: sock_diag(7), netlink(7), linux/inet_diag.h (inet_diag_req_v2, inet_diag_msg). A kernel that
lacks the module says of everything that it is not there, so what it says of a connection of our own comes first.
"""

import os
import socket
import struct
from functools import cache
from typing import NamedTuple

ASK_S = 5.0
SOCK_DIAG, BY_FAMILY, ERROR, REQUEST = 4, 20, 2, 1
HEADER = struct.Struct("=IHHII")  # length, type, flags, number, process
QUESTION = struct.Struct("=BBBxI")  # family, protocol, more, states
ENDS = struct.Struct("!HH4s12x4s12x")  # ports here and there, addresses
ANY = struct.Struct("=III")  # interface, cookie
ANSWER = struct.Struct("=4s48sIIIII")  # family and so on; ends; expires, two queues, uid, inode
MAPPED = bytes(10) + b"\xff\xff"  # begins an address of IPv4 in IPv6
Address = tuple[str, int]


class Row(NamedTuple):
    """What the kernel knows of one side of a connection."""

    uid: int
    inode: int  # 0: no process has it any more


def find(here: Address, there: Address) -> Row | None:
    """Return the side whose own end is `here`; None where there is none. Raises OSError where nobody can be asked."""
    if not _answers():
        raise OSError("the kernel tells of no connections by netlink")
    return _asked(here, there)


@cache
def _answers() -> bool:
    """Tell whether this kernel finds a connection of this process."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(ASK_S)
            with socket.create_connection(listener.getsockname()[:2], ASK_S) as one, listener.accept()[0]:
                found = _asked(one.getsockname()[:2], one.getpeername()[:2])
                return found is not None and found.inode == os.fstat(one.fileno()).st_ino
    except (OSError, AttributeError):
        return False


def _asked(here: Address, there: Address) -> Row | None:
    ends = ENDS.pack(here[1], there[1], socket.inet_aton(here[0]), socket.inet_aton(there[0]))
    body = QUESTION.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + ends + ANY.pack(0, 0xFFFFFFFF, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as asking:
        asking.settimeout(ASK_S)
        asking.send(HEADER.pack(HEADER.size + len(body), BY_FAMILY, REQUEST, 1, 0) + body)
        said = asking.recv(1 << 16)
    if len(said) < HEADER.size + ANSWER.size or HEADER.unpack_from(said)[1] != BY_FAMILY:
        return None
    _, found, _, _, _, uid, inode = ANSWER.unpack_from(said, HEADER.size)
    return Row(uid, inode) if _is_between(found, here, there) else None  # a listener is found too


def _is_between(found: bytes, here: Address, there: Address) -> bool:
    ports = struct.unpack_from("!HH", found)
    places = found[4:20], found[20:36]
    wanted = [socket.inet_aton(end[0]) for end in (here, there)]
    told = [place[12:] if place.startswith(MAPPED) else place[:4] for place in places]
    return ports == (here[1], there[1]) and told == wanted
