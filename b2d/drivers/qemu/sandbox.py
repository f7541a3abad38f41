"""QEMU's own sandbox: the system calls that it gives up before it runs a guest."""

import re
import signal
import sys

# obsolete calls, set-uid programs, new processes, priorities: QEMU needs none; a guest that broke out would
DENIED = ("obsolete", "elevateprivileges", "spawn", "resourcecontrol")
ARGUMENTS: tuple[str, ...] = ()
if sys.platform == "linux":  # only its kernel has such a filter
    ARGUMENTS = ("-sandbox", ",".join(["on", *(f"{name}=deny" for name in DENIED)]))
REFUSED = re.compile("-sandbox|'sandbox'|seccomp")  # in the log of a QEMU that was built without it


def is_refused(exit_code: int, log: str) -> bool:
    """Tell whether a QEMU ended because of the sandbox: by the signal for a forbidden call, or by its log."""
    return exit_code == -signal.SIGSYS or REFUSED.search(log) is not None
