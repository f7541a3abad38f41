"""Shared folders over virtiofs: the same rules as for 9p, its advantages, and the death of its process."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.drivers.qemu.process import QemuProcess
from b2d.host.polling import wait_until
from b2d.host.process_identity import is_alive
from b2d.models import ProcessIdentity
from tests.e2e.conftest import Person
from tests.e2e.test_guest_folders import (
    FOLLOW,
    PROJECT,
    as_root,
    in_project,
    outside,
    project,
    test_a_file_that_is_open_in_a_container_and_grows_on_the_host_is_read_as_it_grows,
    test_a_machine_that_was_saved_has_its_folders_before_it_is_said_to_be_up,
    test_a_machine_whose_folder_went_away_while_it_was_saved_goes_on_with_a_warning,
    test_a_read_only_folder_is_read_and_not_written_even_by_root,
    test_docker_run_finds_the_folder_that_somebody_works_in,
    test_no_link_leads_out_of_a_folder,
    test_the_guest_sees_the_host_s_modes_and_its_numbers_of_users,
    test_what_a_container_writes_is_the_person_s_on_the_host,
    test_what_the_host_appends_stays_where_a_container_appends_too,
)
from tests.support import newer_qemu

__all__ = [
    "outside",
    "project",
    "test_a_file_that_is_open_in_a_container_and_grows_on_the_host_is_read_as_it_grows",
    "test_a_machine_that_was_saved_has_its_folders_before_it_is_said_to_be_up",
    "test_a_machine_whose_folder_went_away_while_it_was_saved_goes_on_with_a_warning",
    "test_a_read_only_folder_is_read_and_not_written_even_by_root",
    "test_docker_run_finds_the_folder_that_somebody_works_in",
    "test_no_link_leads_out_of_a_folder",
    "test_the_guest_sees_the_host_s_modes_and_its_numbers_of_users",
    "test_what_a_container_writes_is_the_person_s_on_the_host",
    "test_what_the_host_appends_stays_where_a_container_appends_too",
]
pytestmark = pytest.mark.qemu
BOOT = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def sharing(person: Person, outside: Path, test_cache: Path) -> Person:
    """Return a user with recent versions of QEMU and virtiofsd."""
    path = f"{newer_qemu.ensure_programs(test_cache)}{os.pathsep}{person.environment['PATH']}"
    person.environment |= {"PATH": path, "B2D_SHARE": f"~/*,{outside}:ro"}
    (person.folder / PROJECT).mkdir()
    (person.folder / PROJECT / "source").write_text("of the host\n")
    person.check_output("up")
    person.create_hello_image()
    return person


def mounted_types(person: Person) -> list[str]:
    return person.check_output("ssh", "grep ' b2d-\\|^b2d-' /proc/mounts | cut -d ' ' -f 3").split()


def test_it_is_what_has_them_where_it_is_new_enough(sharing: Person) -> None:
    assert mounted_types(sharing) == ["virtiofs", "virtiofs"]


def test_a_file_is_mapped_for_shared_writing(sharing: Person, project: Path) -> None:
    program = project / "mapped"
    subprocess.run(["gcc", "-static", "-o", program, Path(__file__).with_name("mapped.c")], check=True)
    (project / "page").write_text("of the host\n")
    in_project(sharing, project, "exec ./mapped page 'of a map\n'")
    assert (project / "page").read_text().startswith("of a map\n")


@pytest.fixture
def follower(sharing: Person, project: Path) -> Iterator[str]:
    """Start a container that follows a growing log of this host."""
    (project / "log").write_text("first\n")
    name = "follower"
    line = FOLLOW.format("/src/log")
    sharing.docker("run", "-d", "--name", name, "-v", f"{project}:/src", "hello", "sh", "-c", line)
    wait_until(
        lambda: sharing.docker("logs", name) == "first\n", condition="the first line", timeout_s=30, interval_s=0.5
    )
    yield name
    sharing.docker("rm", "-f", name)


def test_a_machine_is_saved_while_a_container_has_a_file_open(sharing: Person, project: Path, follower: str) -> None:
    booted = sharing.check_output("ssh", BOOT)
    sharing.check_output("save")
    assert sharing.b2d("status").stdout == b"saved\n"
    with (project / "log").open("a") as log:
        log.write("meanwhile\n")
    sharing.check_output("up")
    assert sharing.check_output("ssh", BOOT) == booted
    read = "first\nmeanwhile\n"
    wait_until(lambda: sharing.docker("logs", follower) == read, condition="the next", timeout_s=30, interval_s=0.5)


def test_nothing_is_left_of_a_machine_that_was_stopped(sharing: Person) -> None:
    servers = served(sharing)
    assert len(servers) == 2
    sharing.check_output("stop")
    wait_until(lambda: not any(map(is_alive, servers)), condition="their end", timeout_s=5)
    assert not list(sharing.paths.folder.glob("virtiofsd.sock*"))


def test_a_virtiofsd_that_died_is_told_of_and_healed_by_a_restart(sharing: Person, project: Path) -> None:
    sharing.check_output("up")
    os.kill(served(sharing)[0].pid, signal.SIGKILL)
    completed = sharing.b2d("up")
    assert completed.returncode == 0
    assert b"b2d restart" in completed.stderr
    assert sharing.check_output("status") == "running\n"
    sharing.environment["B2D_STOP_WAIT"] = "5"
    sharing.check_output("restart")
    assert sharing.check_output("ssh", as_root(f"cat '{project}/source'")) == (project / "source").read_text()


def test_a_machine_that_was_saved_with_9p_goes_on_so_and_has_virtiofs_from_its_next_boot(sharing: Person) -> None:
    sharing.environment["B2D_MOUNT_TYPE"] = "9p"
    sharing.check_output("restart")
    assert mounted_types(sharing) == ["9p", "9p"]
    booted = sharing.check_output("ssh", BOOT)
    sharing.check_output("save")
    del sharing.environment["B2D_MOUNT_TYPE"]
    sharing.check_output("up")
    assert sharing.check_output("ssh", BOOT) == booted
    assert mounted_types(sharing) == ["9p", "9p"]
    sharing.check_output("restart")
    assert mounted_types(sharing) == ["virtiofs", "virtiofs"]


def served(person: Person) -> list[ProcessIdentity]:
    launch = QemuProcess(person.paths).launch()
    assert launch is not None
    return [server for server in launch.servers if server is not None]
