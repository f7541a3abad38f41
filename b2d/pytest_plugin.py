"""Fixtures for pytest that give tests a Docker host. Every pytest here loads this, and b2d only when used."""

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
OTHERS_S = 1800.0  # for another process of this run that starts the machine, or ends it


def pytest_addoption(parser: pytest.Parser) -> None:
    """As options, or in the settings of the project."""
    group = parser.getgroup("b2d", "the Docker host of b2d")
    which = "the machine that b2d_machine and docker_host give, made where there is none"
    after = "what becomes of it: as it was before, kept on, or deleted if it was made here"
    group.addoption("--b2d-machine", metavar="NAME", help=f"{which} [{NAME}]")
    group.addoption("--b2d-after", choices=AFTER, help=f"{after} [{AFTER[0]}]")
    parser.addini("b2d_machine", which, default=NAME)
    parser.addini("b2d_after", after, default=AFTER[0])


@pytest.fixture(scope="session")
def b2d_machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Machine]":
    """A b2d.Machine that is up; all processes of pytest-xdist have the same one."""
    from b2d import Machine

    config = request.config
    machine = Machine(config.getoption("b2d_machine") or config.getini("b2d_machine"))
    after = config.getoption("b2d_after") or config.getini("b2d_after")
    if after not in AFTER:
        raise pytest.UsageError(f"b2d_after cannot be {after!r}: one of {', '.join(AFTER)}")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    folder = tmp_path_factory.getbasetemp()
    with _shared(machine, (folder.parent if worker else folder) / "b2d", worker or "alone", after):
        yield machine


@pytest.fixture(scope="session")
def docker_host(b2d_machine: "Machine") -> Iterator[str]:
    """DOCKER_HOST, which is in the environment with its companions until the end of the session."""
    variables = b2d_machine.docker_env()
    with pytest.MonkeyPatch.context() as patches:
        patches.delenv("DOCKER_CONTEXT", raising=False)  # docker obeys it first
        for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
            patches.delenv(name, raising=False)
        for name, value in variables.items():
            patches.setenv(name, value)
        yield variables["DOCKER_HOST"]


@contextmanager
def _shared(machine: "Machine", folder: Path, me: str, after: str) -> Iterator[None]:
    """The machine is up in the block; who is the last of those that share `folder` does what is to be done after it."""
    from filelock import FileLock

    from b2d.host.files import private_folder

    users, before = private_folder(folder / "users"), folder / "before"
    lock = FileLock(folder / "lock", timeout=OTHERS_S)
    (users / me).touch()  # before the lock is had: nobody is to end it while others wait for it
    try:
        with lock:
            if not before.exists():
                before.write_text(machine.state())
            machine.up()
        yield
    finally:
        with lock:
            (users / me).unlink()
            if not any(users.iterdir()) and before.exists():
                _clean_up(machine, before.read_text(), after)
                before.unlink()


def _clean_up(machine: "Machine", before: str, after: str) -> None:
    if after == "delete" and before == "absent":
        machine.delete()
    elif after != "keep":
        machine.put_back(before)
