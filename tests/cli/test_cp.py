"""Arguments of cp: an invalid one is reported before anything is copied."""

from pathlib import Path

import pytest

from b2d.machine_store.store import MachineStore
from tests.support.cli import Prompt
from tests.support.fakes import a_spec


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a user whose machine is off."""
    person = Prompt(tmp_path, {"B2D_DRIVER": "qemu"})
    MachineStore(person.home).write(a_spec())
    person.home.machine("boot2docker-vm").disk_qcow2.touch()
    return person


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        ("", 2, "missing argument"),
        ("file", 2, "cp needs a source and a target"),
        ("file other", 2, "source and target are both on this host"),
        (":a :b", 2, "source and target are both in a machine"),
        (":a file :b", 2, "the sources must all be in the same machine, or all on this host"),
        ("a:x b:x .", 2, "the sources must all be in the same machine, or all on this host"),
        ("- file :x", 2, "an archive must be the only source"),
        (":x :y -", 2, "or the target of one source"),
        ("--json :x -", 2, "an archive must go to a file or a pipe"),
        ("a@b:x .", 2, "'a@b' is not a valid machine name"),
        ("'' :x", 2, "a path cannot be empty"),
        ("file :x", 4, "boot2docker-vm is stopped, not running"),
        ("other:x .", 3, "there is no machine other"),
        ("--vm other :x .", 3, "there is no machine other"),
        ("boot2docker-vm:x . --vm other", 4, "boot2docker-vm is stopped"),
    ],
)
def test_an_invalid_copy_is_reported_with_its_exit_code(prompt: Prompt, typed: str, code: int, message: str) -> None:
    result = prompt.sh(f"b2d cp {typed}")
    assert (result.code, result.out if "--json" not in typed else "") == (code, "")
    assert message in result.err
    assert "     try: " in result.err
