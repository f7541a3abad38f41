"""QEMU's own sandbox: the system calls that it gives up for good before it runs a guest."""

import re
import sys

# obsolete calls, set-uid programs, other processes, priorities: QEMU needs none, a guest that broke out would
DENIED = ("obsolete", "elevateprivileges", "spawn", "resourcecontrol")
ARGUMENTS: tuple[str, ...] = ("-sandbox", ",".join(["on", *(f"{name}=deny" for name in DENIED)]))
if sys.platform != "linux":  # the kernel's filter is Linux's
    ARGUMENTS = ()
REFUSED = re.compile("sandbox|seccomp", re.IGNORECASE)  # in the words of a QEMU that was built without it


def is_refused(said: str) -> bool:
    """Tell from its last words whether a QEMU ended because of the sandbox. Without any, a signal ended it: SIGSYS."""
    return not said.strip() or REFUSED.search(said) is not None
