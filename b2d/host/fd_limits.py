"""Room for connections: who fills a hypervisor's open files, at a port that it leads into a guest, keeps all out."""

import sys
from contextlib import suppress

MOST = 65536  # open files; the usual limit of a shell's programs is 1024, and anybody can have as many connections


def raise_limit(pid: int, most: int = MOST) -> None:
    """Let a process of this user's have as many open files as it may, up to `most`; on Linux alone."""
    if sys.platform != "linux":
        return
    import resource  # there is none on Windows

    with suppress(OSError, ValueError):  # it has ended
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (wanted, hard))
