"""A network of its own for a part of the tests: the machines of two workers then never compete for ports."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import requirements

CLONE_NEWNET = 0x40000000  # <linux/sched.h>
HOST = "B2D_TEST_HOST_NETWORK"  # set to the file of this host's network while the tests have another
OWN = "/proc/thread-self/ns/net"  # a network belongs to a thread, which passes it on


def is_possible() -> bool:
    """Return True where own_network has an effect."""
    return sys.platform == "linux" and requirements.is_met("root")


@contextmanager
def own_network() -> Iterator[None]:
    """Give this thread, and what it starts, a network with loopback only; where that is impossible, do nothing."""
    if not is_possible():
        yield
        return
    before = os.open(OWN, os.O_RDONLY)
    os.environ[HOST] = f"/proc/{os.getpid()}/fd/{before}"
    try:
        _check(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET))
        subprocess.run(["busybox", "ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        _check(ctypes.CDLL(None, use_errno=True).setns(before, CLONE_NEWNET))
        os.close(before)
        del os.environ[HOST]


def host_network() -> tuple[str, ...]:
    """Return the words that run a command in this host's network instead."""
    return (str(shutil.which("nsenter")), f"--net={os.environ[HOST]}") if HOST in os.environ else ()


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
