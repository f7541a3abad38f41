"""A docker-machine machine is imported and started: the data of its disk is there, and the original is unchanged."""

import pytest

from tests.e2e.conftest import Person
from tests.support import raw_disks
from tests.support.foreign_machines import NOTE, create_docker_machine

pytestmark = pytest.mark.qemu


def test_an_imported_machine_starts_with_the_data_of_its_disk(person: Person) -> None:
    disk = create_docker_machine(person.folder, mib=400)
    before = raw_disks.sha256_of(disk)
    person.environment["B2D_DRIVER"] = "qemu"
    assert person.check_output("import").splitlines()[1].split()[:2] == ["default", "stopped"]
    person.check_output("import", "default", "--vm", "boot2docker-vm")
    person.check_output("up")
    assert person.check_output("ssh", "cat /var/lib/boot2docker/note") == NOTE
    person.create_hello_image()
    person.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo 42 >/kept/answer")
    person.check_output("restart")
    assert person.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer") == "42\n"
    assert raw_disks.sha256_of(disk) == before
    person.check_output("delete", "--yes")
    assert raw_disks.sha256_of(disk) == before
