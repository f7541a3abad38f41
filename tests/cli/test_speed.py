"""Verbs that ask no hypervisor import no library that only others need: start-up time counts in every script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.host.process_identity import identify
from b2d.machine_store.store import MachineStore
from b2d.models import Endpoint
from tests.support.cli import Prompt
from tests.support.fakes import a_spec
from tests.support.paths import ROOT

HEAVY = {"rich", "requests", "paramiko", "cryptography", "psutil", "pycdlib", "virtualbox", "filelock", "asyncio"}
HEAVY |= {"tomlkit"}
SLOW = {"ssl", "subprocess", "tempfile", "shutil", "importlib.metadata", "tomllib", "difflib", "logging", "http"}
MACHINES = {"b2d.machine.lifecycle", "b2d.drivers.qemu", "b2d.drivers.virtualbox", "b2d.image.image_store"}
NOUNS = {"b2d.models", "json", "dataclasses"}
SHOW = """
import os, sys
os._exit = lambda code: (print(*sys.modules, file=sys.stderr), sys.exit(code))
from b2d.__main__ import main
main()
"""


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a new user."""
    return Prompt(tmp_path)


def loaded_modules(prompt: Prompt, *arguments: str) -> set[str]:
    """Return the modules that are imported when the command has ended."""
    root = str(ROOT)
    completed = subprocess.run(
        [sys.executable, "-c", SHOW, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=prompt.full_environment(PYTHONPATH=root),
    )
    modules = set(completed.stderr.splitlines()[-1].split())
    assert ("click" in modules) == (arguments != ("status",))
    return modules


@pytest.mark.parametrize("typed", ["version", "--version", "config", "list", "--quiet list", "config memory"])
def test_verbs_without_a_machine_import_nothing_about_machines(prompt: Prompt, typed: str) -> None:
    modules = loaded_modules(prompt, *typed.split())
    assert modules & (HEAVY | SLOW | MACHINES | NOUNS) == set()


@pytest.mark.parametrize("typed", ["status", "ip", "shellinit", "info", "status --json", "list --json"])
def test_verbs_that_read_the_state_import_no_slow_library(prompt: Prompt, typed: str) -> None:
    assert loaded_modules(prompt, *typed.split()) & (HEAVY | SLOW) == set()
    MachineStore(prompt.home).write(a_spec())
    prompt.home.machine("boot2docker-vm").disk_qcow2.write_bytes(b"QFI\xfb")
    modules = loaded_modules(prompt, *typed.split())
    assert "b2d.drivers.qemu.driver" in modules
    assert modules & (HEAVY | SLOW) == set()


@pytest.mark.parametrize("driver", ["qemu", "virtualbox"])
def test_a_plain_status_of_a_stopped_machine_imports_neither_click_nor_sockets(prompt: Prompt, driver: str) -> None:
    MachineStore(prompt.home).write(a_spec(driver=driver))
    prompt.environment["B2D_VBOXAPI"] = "/nowhere"
    modules = loaded_modules(prompt, "status")
    assert f"b2d.drivers.{driver}.driver" in modules
    assert modules & (HEAVY | SLOW | {"click", "socket", "b2d.cli.base"}) == set()


@pytest.mark.parametrize("state", ["absent", "stopped", "running"])
def test_a_plain_status_imports_no_dataclasses(prompt: Prompt, state: str) -> None:
    """They import `inspect`, and with it the compiler, which takes as long as Python's own start."""
    paths = prompt.home.machine("boot2docker-vm")
    if state != "absent":
        MachineStore(prompt.home).write(a_spec())
        paths.disk_qcow2.write_bytes(b"QFI\xfb")
    if state == "running":  # by the record of a start, which names this process
        paths.qemu_pid.write_text(str(os.getpid()))
        QemuProcess(paths).record(Launch(Endpoint("127.0.59.103", 2022, 2376), [], "", identify(os.getpid())))
    assert prompt.b2d("status").out == f"{state}\n"
    assert loaded_modules(prompt, "status") & {"dataclasses", "inspect", "ast"} == set()


@pytest.mark.parametrize("typed", ["--help", "up --help", "iso --help", "ssh --help", "download --help"])
def test_help_imports_only_the_command_line(prompt: Prompt, typed: str) -> None:
    assert loaded_modules(prompt, *typed.split()) & ((HEAVY | SLOW | MACHINES | NOUNS) - {"shutil"}) == set()


@pytest.mark.parametrize(
    "words",
    [
        [""],
        ["st"],
        ["up", "--me"],
        ["--vm", ""],
        ["config", "set", "dri"],
        ["set", ""],
        ["screenshot", ""],
        ["frob", ""],
    ],
)
def test_completion_imports_no_slow_library(prompt: Prompt, words: list[str]) -> None:
    for name in ("one", "two"):
        MachineStore(prompt.home).write(a_spec(name))
    assert (
        loaded_modules(prompt, "completion", "bash", "--", *words) & (HEAVY | (SLOW - {"difflib"}) | MACHINES) == set()
    )
