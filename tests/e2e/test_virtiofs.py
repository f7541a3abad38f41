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
    test_a_read_only_folder_is_read_and_not_written_even_by_root,
    test_a_resumed_machine_has_its_folders_before_up_ends,
    test_a_saved_machine_resumes_with_a_warning_when_a_folder_is_missing,
    test_docker_run_finds_the_current_folder,
    test_files_written_by_a_container_belong_to_the_user_of_this_host,
    test_lines_appended_on_the_host_and_in_a_container_are_all_preserved,
    test_no_link_leads_outside_a_folder,
    test_the_guest_sees_the_modes_and_user_ids_of_the_host,
)
from tests.support import newer_qemu

__all__ = [
    "outside",
    "project",
    "test_a_file_that_is_open_in_a_container_and_grows_on_the_host_is_read_as_it_grows",
    "test_a_read_only_folder_is_read_and_not_written_even_by_root",
    "test_a_resumed_machine_has_its_folders_before_up_ends",
    "test_a_saved_machine_resumes_with_a_warning_when_a_folder_is_missing",
    "test_docker_run_finds_the_current_folder",
    "test_files_written_by_a_container_belong_to_the_user_of_this_host",
    "test_lines_appended_on_the_host_and_in_a_container_are_all_preserved",
    "test_no_link_leads_outside_a_folder",
    "test_the_guest_sees_the_modes_and_user_ids_of_the_host",
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


def test_virtiofs_is_used_if_virtiofsd_is_new_enough(sharing: Person) -> None:
    assert mounted_types(sharing) == ["virtiofs", "virtiofs"]


def test_a_shared_writable_mapping_of_a_file_works(sharing: Person, project: Path) -> None:
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


def test_no_process_or_socket_is_left_of_a_stopped_machine(sharing: Person) -> None:
    servers = served(sharing)
    assert len(servers) == 2
    sharing.check_output("stop")
    wait_until(lambda: not any(map(is_alive, servers)), condition="their end", timeout_s=5)
    assert not list(sharing.paths.folder.glob("virtiofsd.sock*"))


def test_a_dead_virtiofsd_is_reported_and_fixed_by_a_restart(sharing: Person, project: Path) -> None:
    sharing.check_output("up")
    os.kill(served(sharing)[0].pid, signal.SIGKILL)
    completed = sharing.b2d("up")
    assert completed.returncode == 0
    assert b"b2d restart" in completed.stderr
    assert sharing.check_output("status") == "running\n"
    sharing.environment["B2D_STOP_WAIT"] = "5"
    sharing.check_output("restart")
    assert sharing.check_output("ssh", as_root(f"cat '{project}/source'")) == (project / "source").read_text()


def test_a_machine_saved_with_9p_resumes_with_it_and_uses_virtiofs_from_its_next_boot(sharing: Person) -> None:
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
