"""Commands that are suggested name the machine in use."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from b2d.cli import diagnostics
from b2d.drivers.qemu import qemu_img
from b2d.errors import InvalidStateError
from b2d.machine.lifecycle import Machine
from b2d.machine_store.store import MachineStore
from tests.support.cli import Prompt, Result
from tests.support.fakes import a_spec


@pytest.fixture(params=["boot2docker-vm", "dev"])
def machine(request: pytest.FixtureRequest) -> str:
    """A machine's name."""
    return str(request.param)


@pytest.fixture
def vm(machine: str) -> str:
    """What a command for it ends with."""
    return "" if machine == "boot2docker-vm" else f" --vm {machine}"


@pytest.fixture
def prompt(tmp_path: Path, machine: str) -> Prompt:
    prompt = Prompt(tmp_path, {"B2D_DRIVER": "qemu"})
    MachineStore(prompt.home).write(a_spec(machine, disk_mib=8))
    qemu_img.create(prompt.home.machine(machine).disk_qcow2, 8, b"payload")
    return prompt


def last_line(answer: Result) -> str:
    return answer.err.splitlines()[-1].strip()


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("disk grow 1000", "b2d up"),
        ("snapshot list", "b2d snapshot create NAME"),
        ("snapshot restore absent --yes", "b2d snapshot list"),
        ("init --memory 4096 --cpus 2", "b2d set memory=4096 cpus=2"),
        ("init --share ~/src", "b2d set share=..."),
        ("ip", "b2d up"),
        ("shellinit", "b2d up"),
        ("cp a b", "b2d cp :PATH FILE"),
        ("context --use --remove", "b2d context --use"),
        ("logs -f --json", "b2d logs --json"),
        ("rollback", "b2d upgrade"),
    ],
)
def test_a_suggested_command_ends_with_the_machine_name(
    prompt: Prompt, machine: str, vm: str, typed: str, command: str
) -> None:
    answer = prompt.b2d("--vm", machine, *typed.split())
    assert any(line.endswith(f"{command}{vm}") for line in answer.err.splitlines()), answer.err


def test_the_command_after_a_restore_names_the_machine(prompt: Prompt, machine: str, vm: str) -> None:
    prompt.b2d("snapshot", "create", "before", "--vm", machine)
    answer = prompt.b2d("snapshot", "restore", "before", "--yes", "--vm", machine)
    assert last_line(answer) == f"the disk is restored from before; start the machine: b2d up{vm}"


def test_a_disk_with_snapshots_is_compacted_by_two_commands(prompt: Prompt, machine: str, vm: str) -> None:
    prompt.b2d("snapshot", "create", "before", "--vm", machine)
    assert last_line(prompt.b2d("disk", "compact", "--vm", machine)) == f"try: b2d up{vm} && b2d disk compact{vm}"


def test_the_machine_name_precedes_the_arguments_of_the_guest(prompt: Prompt, machine: str, vm: str) -> None:
    assert last_line(prompt.b2d("ssh", "--vm", machine, "--json", "ls")) == f"try: b2d ssh{vm} -- COMMAND --json"


def test_a_machine_without_its_description_is_listed_with_both_commands(prompt: Prompt, machine: str, vm: str) -> None:
    prompt.home.machine(machine).spec.unlink()
    commands = f"b2d up{vm} creates it, b2d delete{vm} removes the remains"
    assert f"{machine} has no machine.json: {commands}" in prompt.b2d("list").err


def test_the_end_of_a_followed_log_suggests_status(monkeypatch: pytest.MonkeyPatch, machine: str, vm: str) -> None:
    monkeypatch.setattr(diagnostics, "END_S", 0.0)
    guest = SimpleNamespace(follow=lambda command, on_output: 0)
    running = SimpleNamespace(name=machine, guest=lambda: guest, state=lambda: "running")
    with pytest.raises(InvalidStateError) as caught:
        diagnostics._follow_docker(cast(Machine, running), None)
    assert caught.value.hint == f"b2d status{vm}"
