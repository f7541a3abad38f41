"""A process gets as many open files as allowed, and never fewer than before."""

import subprocess
import sys

import pytest

from b2d.host import fd_limits

pytestmark = pytest.mark.needs("linux")  # only Linux sets another process's limits


@pytest.mark.parametrize(("most", "after"), [(900, 900), (5000, 1000), (50, 100)])
def test_the_limit_is_raised_and_never_lowered(program: "subprocess.Popen[bytes]", most: int, after: int) -> None:
    import resource

    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (100, 1000))
    fd_limits.raise_limit(program.pid, most)
    assert resource.prlimit(program.pid, resource.RLIMIT_NOFILE) == (after, 1000)


def test_a_process_that_has_ended_is_ignored() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    fd_limits.raise_limit(ended.pid)
