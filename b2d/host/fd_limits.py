"""Raise the limit of open files, so that connections to a hypervisor's port cannot exhaust it."""

import sys
from contextlib import suppress

MOST = 65536  # open files; the usual limit of 1024 is easily reached by connections


def raise_limit(pid: int, most: int = MOST) -> None:
    """Raise the limit of open files of a process of this user up to `most`; only on Linux."""
    if sys.platform != "linux":
        return
    import resource  # missing on Windows

    with suppress(OSError, ValueError):  # the process has ended
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if soft != resource.RLIM_INFINITY and soft < limit:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
