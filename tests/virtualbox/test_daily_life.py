"""Daily use of a real VirtualBox: the socket, copies, an office network, snapshots, disk space.

The order matters: an emulated guest resumes in seconds, and takes minutes to boot, which it does not here.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from b2d.host.files import allocated_bytes
from b2d.host.polling import wait_until
from b2d.network.endpoints import GATEWAY
from b2d.paths import Home
from tests.e2e.conftest import Person
from tests.e2e.office import PLAIN, PROXY_PORT, USER
from tests.support import docker_registry
from tests.virtualbox.saved_machine import DISK_MIB, PASSWORD, saved_person

pytestmark = [pytest.mark.virtualbox, pytest.mark.timeout(5000)]
MIB = 1 << 20
IMAGE = f"{PLAIN}/library/small"
FULL_MIB, FREE_MIB = 12, 20  # an emulated guest writes 15 MiB in a minute
RESERVE = (  # so that little is left to overwrite: space reserved for root and unused space are free as well
    "echo 0 | sudo tee /sys/fs/ext4/sda1/reserved_clusters >/dev/null && "
    "free=$(df -kP /mnt/sda1 | tail -n 1 | (read -r _ size used _ && echo $((size - used)))) && "
    f"sudo fallocate -l $(((free - {FREE_MIB << 10}) * 1024)) /mnt/sda1/reserved"
)
FILL = (
    "dd if=/dev/urandom of=/dev/shm/part bs=1M count=1 && "
    f"cat $(yes /dev/shm/part | head -n {FULL_MIB}) | sudo tee /mnt/sda1/full >/dev/null && sync"
)


@pytest.fixture(scope="module")
def person(iso: Path, image_home: Home) -> Iterator[Person]:
    """Yield a user whose machine was resumed."""
    with saved_person(iso, image_home) as someone:
        someone.check_output("up")
        yield someone


@pytest.fixture(scope="module")
def proxy(person: Person, registry: str) -> Iterator[Path]:
    """Start the office proxy and a registry on this host's loopback and return the proxy's log."""
    log, port = person.folder / "proxy.log", PLAIN.partition(":")[2]
    commands = {
        log: [sys.executable, "-m", "tests.e2e.office", PASSWORD],
        person.folder / "registry.log": [registry, "serve", str(docker_registry.write_config(person.folder, port))],
    }
    with ExitStack() as stack:
        for output, command in commands.items():
            with output.open("w") as file:
                process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            stack.callback(process.wait)
            stack.callback(process.kill)
        wait_until(lambda: log.read_text() == "ready\n", condition="the proxy", timeout_s=20)
        wait_until(
            lambda: "listening on" in (person.folder / "registry.log").read_text(),
            condition="the registry",
            timeout_s=20,
        )
        docker_registry.push_image(port, "library/small", b"from the registry\n")
        yield log


def mark(name: str) -> str:
    """Return a text that occurs nowhere else on the disk or in commands."""
    return f"this was written {name}"


def write_command(name: str) -> str:
    """Return a command that writes the mark into Docker's volume."""
    text, last = mark(name)[:-1], mark(name)[-1]
    return f"echo '{text}''{last}' | sudo tee /mnt/sda1/var/lib/docker/volumes/kept/_data/{name} >/dev/null"


def test_docker_works_over_the_socket_and_with_run(person: Person) -> None:
    command = "docker images --format '{{.Repository}}'"
    at_the_socket = person.sh(f"DOCKER_HOST='unix://{person.paths.docker_socket}' {command}")
    assert (at_the_socket.returncode, at_the_socket.stdout) == (0, b"hello\n"), at_the_socket.stderr
    assert person.check_output("run", "--", "sh", "-c", command) == "hello\n"
    assert person.b2d("run", "--", "sh", "-c", "exit 7").returncode == 7


def test_a_file_is_copied_each_way(person: Person) -> None:
    local, back = person.folder / "here", person.folder / "back"
    local.write_bytes(bytes(range(256)) * 1024)
    local.chmod(0o750)
    person.check_output("cp", str(local), ":/tmp/there")
    person.check_output("cp", ":/tmp/there", str(back))
    assert back.read_bytes() == local.read_bytes()
    assert back.stat().st_mode == local.stat().st_mode


def test_the_guest_reaches_a_proxy_on_this_host_s_loopback(person: Person, proxy: Path) -> None:
    person.docker("pull", IMAGE)
    requests = proxy.read_text().splitlines()
    assert f"GET {PLAIN} 200" in requests
    assert {line.split()[2] for line in requests if PLAIN in line} == {"200"}
    stdout = person.check_output("ssh", f"wget -qO- http://{PLAIN}/v2/; env | grep ^http_proxy")
    assert stdout == f"{{}}http_proxy=http://{USER}:{PASSWORD}@{GATEWAY}:{PROXY_PORT}\n"


def test_deleted_data_is_returned_to_this_host_in_two_steps(person: Person) -> None:
    """The first step is here, while the machine runs; the second is at the end."""
    before = allocated_bytes(person.paths.disk_vdi)
    person.check_output("ssh", f"{RESERVE} && {FILL}")
    full = json.loads(person.check_output("disk", "--json"))
    assert full["size"] == DISK_MIB * MIB
    assert full["room"] - before > (FULL_MIB - 2) * MIB
    files = full["files"]
    assert FULL_MIB * MIB < files["used"] <= files["used"] + files["free"] < files["size"] < full["size"]
    person.check_output("ssh", "sudo rm /mnt/sda1/full")
    assert not json.loads(person.check_output("disk", "compact", "--json"))["done"]


def test_a_snapshot_of_the_running_machine_is_restored(person: Person) -> None:
    """The disk's file is checked, since a boot takes an emulated guest ten minutes."""

    def is_in(mark: str, name: str) -> bool:
        return any(mark.encode() in path.read_bytes() for path in person.paths.folder.rglob(name))

    person.docker("volume", "create", "kept")
    person.check_output("ssh", write_command("then"))
    person.check_output("snapshot", "create", "then")
    person.docker("tag", "hello", "image-of-later")
    person.check_output("ssh", write_command("later") + " && sync")
    refused = person.b2d("snapshot", "restore", "then", "--yes")
    assert (refused.returncode, refused.stdout) == (4, b"")
    person.check_output("save")
    assert [line.split()[0] for line in person.check_output("snapshot", "list").splitlines()] == ["NAME", "then"]
    assert is_in(mark("then"), "disk.vdi")
    assert is_in(mark("later"), "*.vdi")
    assert is_in("image-of-later", "*.vdi")
    person.check_output("snapshot", "restore", "then", "--yes")
    assert person.b2d("status").stdout == b"stopped\n"
    person.check_output("snapshot", "delete", "then")
    assert [path.name for path in person.paths.folder.rglob("*.vdi")] == ["disk.vdi"]
    assert is_in(mark("then"), "*.vdi")
    assert not is_in(mark("later"), "*.vdi")
    assert not is_in("image-of-later", "*.vdi")


def test_deleted_data_is_returned_while_the_machine_is_off(person: Person) -> None:
    before = allocated_bytes(person.paths.disk_vdi)
    document = json.loads(person.check_output("disk", "compact", "--json"))
    assert (document["before"], document["done"]) == (before, True)
    given_back = before - allocated_bytes(person.paths.disk_vdi)
    assert given_back > FULL_MIB * MIB / 2  # a tenth may lie anywhere, and blocks are whole MiB
    assert mark("then").encode() in person.paths.disk_vdi.read_bytes()
    person.check_output("disk", "grow", str(DISK_MIB + 500))
    assert json.loads(person.check_output("disk", "--json"))["size"] == (DISK_MIB + 500) * MIB
