"""Pytest fixtures that give tests a Docker host.

Every pytest in this environment imports this module; the rest of b2d is imported only when a fixture is used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from b2d import Machine

NAME = "pytest"
AFTER = ("as-before", "keep", "delete")
OTHERS_S = 1800.0  # timeout for another process of this run that starts or stops the machine


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the settings for the project's configuration."""
    group = parser.getgroup("b2d", "the Docker host of b2d")
    name = "machine of the fixtures b2d_machine and docker_host, created if there is none"
    after = "state of the machine after the session: as before, kept running, or deleted if it was created"
    group.addoption("--b2d-machine", metavar="NAME", help=f"{name} [{NAME}]")
    group.addoption("--b2d-after", choices=AFTER, help=f"{after} [{AFTER[0]}]")
    parser.addini("b2d_machine", name, default=NAME)
    parser.addini("b2d_after", after, default=AFTER[0])


@pytest.fixture(scope="session")
def b2d_machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Machine]":
    """Give a running b2d.Machine, which all processes of pytest-xdist share."""
    from b2d import Machine

    config = request.config
    machine = Machine(config.getoption("b2d_machine") or config.getini("b2d_machine"))
    after = config.getoption("b2d_after") or config.getini("b2d_after")
    if after not in AFTER:
        raise pytest.UsageError(f"b2d_after is {after!r}, not one of {', '.join(AFTER)}")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    folder = tmp_path_factory.getbasetemp()
    with _shared(machine, (folder.parent if worker else folder) / "b2d", worker or "alone", after):
        yield machine


@pytest.fixture(scope="session")
def docker_host(b2d_machine: "Machine") -> Iterator[str]:
    """Give DOCKER_HOST, which is in the environment with its related variables until the end of the session."""
    variables = b2d_machine.docker_env()
    with pytest.MonkeyPatch.context() as patches:
        patches.delenv("DOCKER_CONTEXT", raising=False)  # docker prefers it to DOCKER_HOST
        for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
            patches.delenv(name, raising=False)
        for name, value in variables.items():
            patches.setenv(name, value)
        yield variables["DOCKER_HOST"]


@contextmanager
def _shared(machine: "Machine", folder: Path, worker: str, after: str) -> Iterator[None]:
    """Start the machine for the block; the last of the processes that share `folder` applies `after`."""
    from filelock import FileLock

    from b2d.host.files import private_folder

    users, before = private_folder(folder / "users"), folder / "before"
    lock = FileLock(folder / "lock", timeout=OTHERS_S)
    (users / worker).touch()  # before the lock, so that no other process stops the machine meanwhile
    try:
        with lock:
            if not before.exists():
                before.write_text(machine.state())
            machine.up()
        yield
    finally:
        with lock:
            (users / worker).unlink()
            if not any(users.iterdir()) and before.exists():
                _clean_up(machine, before.read_text(), after)
                before.unlink()


def _clean_up(machine: "Machine", before: str, after: str) -> None:
    if after == "delete" and before == "absent":
        machine.delete()
    elif after != "keep":
        machine.put_back(before)
