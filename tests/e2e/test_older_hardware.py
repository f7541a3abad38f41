"""A machine saved by an older b2d resumes after the upgrade, and gets the current hardware at its next boot."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from b2d.machine_store.store import MachineStore
from b2d.models import HARDWARE, MachineSpec
from tests.e2e.conftest import LIMIT_S, NAME, Person
from tests.e2e.web import fetch, server_command

pytestmark = pytest.mark.qemu

# the fields that b2d wrote before there was a second revision, with the whole home shared
FIRST = """
from b2d import __main__
from b2d.guest import share_policy
from b2d.machine import boot_preparation
boot_preparation.HARDWARE = 1
boot_preparation.shared_folders = lambda spec, *_: spec
share_policy.refusal = share_policy.refusal_inside
__main__.main()
"""
SINCE = ("share", "engine_port", "hardware")  # fields that older versions did not write
PORT = 20082


@pytest.fixture(scope="module", params=["--tls", "--no-tls"])
def woken(person: Person, request: pytest.FixtureRequest) -> Iterator[Person]:
    """Yield a machine that an older b2d saved and the current one resumed; it publishes a port."""
    person.check_output("init", *[request.param] * (request.param == "--no-tls"))
    write_old_spec(person)
    command = [sys.executable, "-c", FIRST, "up"]
    subprocess.run(command, check=True, timeout=LIMIT_S, cwd=person.folder, env=person.environment)
    person.create_hello_image()
    person.docker("run", "-d", "--name", "web", "-p", f"{PORT}:80", "hello", *server_command("hey"))
    person.check_output("ssh", "echo trace >/tmp/trace")
    person.check_output("save")
    write_old_spec(person)
    state = json.loads(person.paths.qemu_saved.read_text())
    state["hardware"].insert(2, "-daemonize")
    person.paths.qemu_saved.write_text(json.dumps(state))
    person.check_output("up")
    yield person
    person.check_output("delete", "--yes")


def write_old_spec(person: Person) -> None:
    """Write the machine's spec in the older format."""
    document = json.loads(person.paths.spec.read_text())
    document = {key: value for key, value in document.items() if key not in SINCE}
    person.paths.spec.write_text(json.dumps(document | {"folders": [str(person.folder)]}))


def spec(person: Person) -> MachineSpec:
    stored = MachineStore(person.home).read(NAME)
    assert stored is not None
    return stored


def assert_resumed(person: Person) -> None:
    """Assert that the machine did not boot: memory, container, port and folder are as before."""
    assert spec(person).hardware == 1
    assert person.check_output("status") == "running\n"
    assert person.check_output("ssh", "cat /tmp/trace") == "trace\n"
    assert person.docker("ps", "--format", "{{.Names}}") == "web\n"
    assert fetch("127.0.0.1", PORT) == "hey"
    (person.folder / "seen").write_text("from here\n")
    assert person.check_output("ssh", f"sudo cat {person.folder}/seen") == "from here\n"


def test_it_resumes_where_it_was_saved(woken: Person) -> None:
    assert_resumed(woken)


def test_a_resumed_machine_can_be_saved_again(woken: Person) -> None:
    woken.check_output("save")
    woken.check_output("up")
    assert_resumed(woken)


def test_it_boots_with_the_current_hardware(woken: Person) -> None:
    """Runs last. The disk is unchanged, and the home with its hidden files is not shared any more."""
    woken.check_output("restart")
    assert spec(woken).hardware == HARDWARE
    assert woken.b2d("ssh", "cat /tmp/trace").returncode != 0
    assert woken.docker("ps", "--all", "--format", "{{.Names}}") == "web\n"
    assert woken.b2d("ssh", f"sudo ls -d {woken.folder}/.b2d").returncode != 0
