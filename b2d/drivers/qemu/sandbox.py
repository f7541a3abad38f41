"""QEMU's own sandbox: the system calls that it gives up for good before it runs a guest."""

import re
import signal
import sys

# obsolete calls, set-uid programs, other processes, priorities: QEMU needs none, a guest that broke out would
DENIED = ("obsolete", "elevateprivileges", "spawn", "resourcecontrol")
ARGUMENTS: tuple[str, ...] = ()
if sys.platform == "linux":  # whose kernel has such a filter
    ARGUMENTS = ("-sandbox", ",".join(["on", *(f"{name}=deny" for name in DENIED)]))
REFUSED = re.compile("-sandbox|'sandbox'|seccomp")  # in the words of a QEMU that was built without it


def is_refused(exit_code: int, said: str) -> bool:
    """Tell whether a QEMU ended because of the sandbox: the kernel's signal for a forbidden call, or its last words."""
    return exit_code == -signal.SIGSYS or REFUSED.search(said) is not None
