"""A guest's SSH server, for the tests of both sides of a connection."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.paths import MachinePaths
from tests.support.ssh_server import Sshd, guest_of, machine


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    return machine(tmp_path)


@pytest.fixture
def sshd(paths: MachinePaths) -> Iterator[Sshd]:
    """Start the SSH server of that machine's guest."""
    with guest_of(paths).running() as server:
        yield server
