"""The main workflow on a real VirtualBox."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.docker.client import DockerApi
from b2d.guest.readiness import ping
from b2d.host.polling import wait_until
from b2d.machine.clock_sync import TOLERANCE_S
from b2d.machine_store.store import MachineStore
from b2d.paths import Home
from tests.e2e.conftest import B2D, NAME, Person
from tests.e2e.web import fetch, refused, server_command
from tests.support.virtualbox_case import vboxmanage
from tests.virtualbox.saved_machine import SHARED, saved_person

pytestmark = [pytest.mark.virtualbox, pytest.mark.timeout(5000)]
SLEPT_S = 70.0  # VirtualBox itself catches up within a minute (TM/CatchUpGiveUpThreshold)
RESUME_S = 10.0  # including queries to Docker, which take an emulated guest seconds on a busy host
QUESTIONS, QUESTION_S = 4, 30.0


@pytest.fixture(scope="module")
def person(iso: Path, image_home: Home) -> Iterator[Person]:
    """Yield a user whose machine is saved."""
    with saved_person(iso, image_home) as someone:
        yield someone


def test_a_saved_machine_is_up_in_seconds(person: Person) -> None:
    assert person.b2d("status").stdout == b"saved\n"
    begin = time.monotonic()
    person.check_output("up")
    took = time.monotonic() - begin
    assert took < RESUME_S + QUESTIONS * question_s(person)
    assert person.check_output("status") == "running\n"


def test_ip_and_shellinit_work_as_with_any_hypervisor(person: Person) -> None:
    assert person.check_output("ip") == f"{person.address}\n"
    assert f"tcp://{person.address}:2376" in person.check_output("shellinit")


def test_ssh_exits_with_the_code_of_its_command_and_the_data_is_on_the_disk(person: Person) -> None:
    """One connection for both, as an emulated guest takes ten seconds to make one."""
    completed = person.b2d("ssh", "--", "hostname; grep -c ' /mnt/sda1 ext4' /proc/mounts; exit 7")
    assert (completed.returncode, completed.stdout) == (7, b"boot2docker\n1\n")


def test_the_clock_is_correct_after_a_resume(person: Person) -> None:
    begin = time.time()
    inside = int(person.check_output("ssh", "date +%s"))
    assert begin - 3 < inside < time.time() + 3


def test_the_home_folder_is_shared_at_its_own_path(person: Person) -> None:
    shared = person.folder / SHARED
    (shared / "host's").write_text("from the host\n")
    inside = f"cd '{shared}' && cat *s && echo from the guest >guest && stat -c %U guest"
    assert person.check_output("ssh", inside) == "from the host\ndocker\n"
    assert (shared / "guest").read_text() == "from the guest\n"


def test_a_container_is_attached_and_its_published_ports_are_open_on_this_host(person: Person) -> None:
    """One container for both, as an emulated guest takes two minutes to start one."""
    *shell, server = server_command("hey")
    run = ["docker", "run", "--rm", "--name", "web", "-p", "20080:80", "-p", "127.0.0.1:20081:80", "hello"]
    command = [str(B2D), "run", "--", *run, *shell, f"echo hi; {server}"]
    with subprocess.Popen(command, env=person.environment, cwd=person.folder, stdout=subprocess.PIPE) as attached:
        assert attached.stdout is not None
        assert attached.stdout.readline() == b"hi\n"
        for address, port in ((person.address, 20080), ("127.0.0.1", 20080), ("127.0.0.1", 20081)):
            wait_until(lambda at=(address, port): fetch(*at) == "hey", condition=f"{address}:{port}", timeout_s=120)  # type: ignore[misc]
        assert person.check_output("ports").count("open\n") == 3
        person.docker("kill", "web")
        wait_until(lambda: refused("127.0.0.1", 20080), condition="its end", timeout_s=60)
        assert attached.wait(60) == 137


def test_the_clock_is_correct_soon_after_this_host_slept(person: Person) -> None:
    """A host's sleep stops everything; here only the machine and its agent are stopped.

    The test waits for the agent's message: queries at the same time would delay an emulated guest.
    """
    engine, before = docker(person), len(clock_messages(person))
    recorded = json.loads(person.paths.agent_process.read_bytes())
    for pid in (pids := [recorded[name]["pid"] for name in ("companion", "machine")]):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(SLEPT_S)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: len(clock_messages(person)) > before, condition="the agent's message", timeout_s=120)
    assert " s behind; it " in clock_messages(person)[-1]
    assert is_right(engine)


def clock_messages(person: Person) -> list[str]:
    """Return what the agent has logged about the guest's clock."""
    return [line for line in person.paths.agent_log.read_text().splitlines() if "the guest's clock" in line]


def is_right(engine: DockerApi) -> bool:
    """Return True when Docker's date, in whole seconds, lies within the duration of the query."""
    begin = time.time()
    answer = ping(engine, QUESTION_S)
    assert answer is not None and answer.date is not None
    return begin - TOLERANCE_S - 1 <= answer.date <= time.time() + TOLERANCE_S


def docker(person: Person) -> DockerApi:
    facts = MachineStore(person.home).read_env(NAME)
    assert facts is not None
    return facts.engine(person.paths.certs)


def question_s(person: Person) -> float:
    """Return the duration of a query to its Docker in seconds."""
    begin = time.monotonic()
    assert ping(docker(person), QUESTION_S) is not None
    return time.monotonic() - begin


def test_a_saved_machine_resumes_where_it_stopped(person: Person) -> None:
    person.check_output("ssh", "echo here >/tmp/kept")
    person.check_output("save")
    assert person.b2d("status").stdout == b"saved\n"
    assert person.b2d("shellinit").stdout == b""
    person.check_output("up")
    command = f"cat /tmp/kept '{person.folder}/of both/guest'"
    assert person.check_output("ssh", command) == "here\nfrom the guest\n"


def test_stop_shuts_the_machine_down_cleanly(person: Person) -> None:
    person.environment["B2D_STOP_WAIT"] = "300"
    completed = person.b2d("stop")
    assert completed.returncode == 0
    assert b"its power was cut" not in completed.stderr
    assert person.b2d("status").stdout == b"stopped\n"


def test_delete_removes_everything_from_virtualbox_and_the_image_stays(person: Person) -> None:
    person.check_output("delete", "--yes")
    assert person.b2d("status").returncode == 3
    assert not person.paths.folder.exists()
    assert [vboxmanage("list", kind) for kind in ("vms", "hdds", "dvds")] == ["", "", ""]
    assert list(person.home.images.glob("*.iso"))
