"""What tests need of this host: each need is checked once, and a test skips where it is not met.

Markers (`qemu`, `virtualbox`, `needs("root", ...)`) and fixtures that call `require` say what a test needs. With
B2D_TEST_STRICT, as in continuous integration, a test whose need is not met fails: nothing may be skipped there.
"""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import requests

from b2d.host import seccomp
from b2d.image.build import mirror, recipe
from tests.support.shells import COMMANDS
from tests.support.virtualbox_case import USABLE
from tests.support.virtualbox_lab import HOST_TOOLS

MIRROR_S = 20
MARKERS = ("qemu", "virtualbox")  # needs that are markers of their own, to select tests by


def require(need: str) -> None:
    """Skip the current test where the need is not met; fail it in continuous integration."""
    if not is_met(need):
        end_test = pytest.fail if os.environ.get("B2D_TEST_STRICT") else pytest.skip
        end_test(f"this host has no {need}, which the test needs")


@cache
def is_met(need: str) -> bool:
    """Return True when this host has it: a kind of system, a right, or else a program. Checked once a process."""
    if need in KINDS:
        return bool(KINDS[need]())
    return shutil.which(COMMANDS[need][0] if need in COMMANDS else need) is not None


def _has_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _has_mirror() -> bool:
    """Return True when the first Debian mirror answers."""
    first = mirror.choose("", recipe.read(recipe.find()).mirrors)[0]
    try:
        address = first.url(mirror.MAIN, "dists/stable/InRelease")
        return requests.head(address, timeout=MIRROR_S, allow_redirects=True).ok
    except requests.RequestException:
        return False


def _has_ipv6() -> bool:
    return socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


KINDS: dict[str, Callable[[], object]] = {
    "linux": lambda: sys.platform == "linux",
    "posix": lambda: os.name == "posix",
    "root": _has_root,
    "x86_64": lambda: platform.machine() == "x86_64",
    "seccomp": seccomp.is_supported,
    "ipv6": _has_ipv6,
    "network": _has_mirror,
    "qemu": lambda: shutil.which("qemu-system-x86_64") and shutil.which("qemu-img"),
    "virtualbox": lambda: USABLE or (_has_root() and all(map(shutil.which, HOST_TOOLS))),
}
