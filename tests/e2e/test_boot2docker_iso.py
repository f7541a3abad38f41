"""A machine with boot2docker's own ISO, whose guest reads no seed disk: the stand-in under QEMU."""

from dataclasses import replace
from pathlib import Path

import pytest

from b2d.host.polling import wait_until
from tests.e2e.conftest import Person
from tests.e2e.web import fetch, server_command

pytestmark = [pytest.mark.qemu, pytest.mark.needs("network")]
DISK_MIB = 4000


@pytest.fixture(scope="module")
def old(person: Person, boot2docker_iso: Path) -> Person:
    """Return a user who made a machine of that ISO, which is up."""
    environment = person.environment | {"B2D_IMAGE": str(boot2docker_iso), "B2D_DISK": str(DISK_MIB)}
    someone = replace(person, environment=environment)
    someone.check_output("init")
    someone.check_output("up")
    return someone


def docker_starts(old: Person) -> int:
    """Return how often its Docker has started."""
    return int(old.check_output("ssh", "sudo grep -c 'msg=\"Starting up\"' /var/lib/boot2docker/log/docker.log"))


def test_it_is_boot2docker_and_docker_answers(old: Person) -> None:
    assert "Boot2Docker 19.03.12" in old.check_output("ssh", "cat /etc/os-release")
    assert old.docker("version", "--format", "{{.Server.APIVersion}}") == "1.41\n"
    assert old.check_output("status") == "running\n"


def test_its_docker_uses_the_machine_s_certificates_and_keeps_its_profile(old: Person) -> None:
    profile = old.check_output("ssh", "sudo cat /var/lib/boot2docker/profile")
    assert "CACERT=/var/lib/boot2docker/tls/b2d-ca.pem" in profile
    assert old.check_output("ssh", "sudo stat -c %a /var/lib/boot2docker/tls/b2d-server-key.pem") == "600\n"


def test_a_container_runs_and_its_port_is_open_on_this_host(old: Person) -> None:
    old.create_hello_image()
    old.docker("run", "-d", "--name", "web", "-p", "20280:80", "hello", *server_command("hey"))
    wait_until(lambda: fetch("127.0.0.1", 20280) == "hey", condition="the port", timeout_s=60)
    old.docker("rm", "-f", "web")


def test_files_are_copied_each_way_without_an_sftp_server(old: Person) -> None:
    (old.folder / "here").write_bytes(bytes(range(256)) * 100)
    old.check_output("cp", str(old.folder / "here"), ":/tmp/there")
    old.check_output("cp", ":/tmp/there", str(old.folder / "back"))
    assert (old.folder / "back").read_bytes() == (old.folder / "here").read_bytes()


def test_ssh_exits_with_the_code_of_its_command(old: Person) -> None:
    assert old.b2d("ssh", "exit 7").returncode == 7


def test_a_saved_machine_resumes(old: Person) -> None:
    old.check_output("ssh", "echo here >/tmp/kept")
    old.check_output("save")
    old.check_output("up")
    assert old.check_output("ssh", "cat /tmp/kept") == "here\n"


def test_it_boots_again_with_its_data_and_its_host_key(old: Person) -> None:
    pinned, starts = old.paths.pinned_host_key.read_bytes(), docker_starts(old)
    completed = old.b2d("restart")
    assert (completed.returncode, b"power was cut" in completed.stderr) == (0, False)
    assert "hello" in old.docker("images", "--format", "{{.Repository}}")
    assert old.paths.pinned_host_key.read_bytes() == pinned
    assert docker_starts(old) == starts + 1  # it has its certificates already


def test_another_guest_with_the_same_disk_is_not_trusted(old: Person) -> None:
    old.check_output("ssh", "sudo rm /var/lib/boot2docker/ssh/ssh_host_ed25519_key*")
    completed = old.b2d("restart")
    assert completed.returncode != 0
    assert b"host key differs" in completed.stderr
