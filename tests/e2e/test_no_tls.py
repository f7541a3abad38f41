"""Two machines at once, one of them as in tutorials of 2014: Docker without TLS on port 2375."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from b2d.machine_store.store import MachineStore
from b2d.models import MachineSpec
from tests.e2e.conftest import NAME, Person

pytestmark = pytest.mark.qemu

LISTENING = "0A"
HOSTNAME = b"boot2docker"  # the default address and the port of 2014


@pytest.fixture(scope="module")
def both(up: Person) -> Iterator[Person]:
    """Start the machine `plain` beside the default one."""
    try:
        up.check_output("up", "--no-tls", "--vm", "plain")
        yield up
    finally:
        up.b2d("delete", "--yes", "--vm", "plain")


def spec(person: Person, name: str) -> MachineSpec:
    stored = MachineStore(person.home).read(name)
    assert stored is not None
    return stored


def address(person: Person, name: str) -> str:
    return spec(person, name).address


def listeners(pid: int) -> set[tuple[str, int]]:
    """Return the listening addresses of a process from the kernel's tables; IPv6 addresses stay hexadecimal."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(link.readlink()))
    sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}
    addresses = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in sockets and (words[3] == LISTENING or table.startswith("udp")):
                host, port = words[1].split(":")
                quad = ".".join(str(byte) for byte in reversed(bytes.fromhex(host))) if len(host) == 8 else host
                addresses.add((quad, int(port, 16)))
    return addresses


def test_docker_without_tls_works_as_in_2014(both: Person) -> None:
    """shellinit points to the socket, which is private to the user; the port of 2014 works, too."""
    script = '$(boot2docker --vm plain shellinit) && docker version --format "{{.Server.Os}}" && echo "$DOCKER_HOST"'
    completed = both.sh(script, shell="bash")
    plain = spec(both, "plain")
    assert completed.stdout.decode() == f"linux\nunix://{both.home.machine('plain').docker_socket}\n", completed.stderr
    assert plain.docker_port in range(2375, 2475)  # another home of this host may use the first one
    completed = both.sh(
        f'DOCKER_HOST=tcp://{plain.address}:{plain.docker_port} docker version --format "{{{{.Server.Os}}}}"'
    )
    assert completed.stdout == b"linux\n", completed.stderr


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shellinit_unsets_the_variables_of_another_machine(both: Person, shell: str) -> None:
    script = """eval "$(b2d shellinit)" && eval "$(b2d shellinit --vm plain)" && docker ps -q
        echo "${DOCKER_TLS_VERIFY:-none}" "${DOCKER_CERT_PATH:-none}" """
    completed = both.sh(script, shell)
    assert (completed.returncode, completed.stdout) == (0, b"none none\n"), completed.stderr


def test_machines_listen_only_on_loopback_addresses_of_this_host(both: Person) -> None:
    for name in ("plain", NAME):
        paths, wanted = both.home.machine(name), spec(both, name)
        agent = json.loads(paths.agent_process.read_text())["companion"]["pid"]
        assert wanted.address.startswith("127.")
        assert listeners(int(paths.qemu_pid.read_text())) == {(wanted.address, wanted.forwarded_docker_port)}
        ports = {wanted.ssh_port} if wanted.tls else {wanted.ssh_port, wanted.docker_port}
        assert listeners(agent) == {(wanted.address, port) for port in ports}


def test_each_machine_has_its_own_address_and_docker(both: Person) -> None:
    assert address(both, "plain") != address(both, NAME)
    identities = {
        both.sh(f'eval "$(b2d shellinit --vm {name})" && docker info --format "{{{{.Name}}}} {{{{.ID}}}}"').stdout
        for name in ("plain", NAME)
    }
    assert {identity.split()[0] for identity in identities} == {b"plain", HOSTNAME}
    assert len({identity.split()[1] for identity in identities}) == 2


def test_the_machine_is_chosen_by_option_or_variable(both: Person) -> None:
    assert both.check_output("ssh", "--vm", "plain", "hostname") == "plain\n"
    assert both.check_output("--vm", "plain", "ssh", "hostname") == "plain\n"
    assert both.check_output("ssh", "hostname").encode() == HOSTNAME + b"\n"
    stdout = both.sh("export B2D_VM=plain; b2d ssh hostname; b2d ip; b2d ssh --vm boot2docker-vm hostname").stdout
    assert stdout.decode().split() == ["plain", address(both, "plain"), HOSTNAME.decode()]


def test_list_shows_both_machines(both: Person) -> None:
    rows = [row.split() for row in both.check_output("list").splitlines()]
    assert rows == [
        ["NAME", "STATE", "DRIVER", "ADDRESS"],
        [NAME, "running", "qemu", address(both, NAME)],
        ["plain", "running", "qemu", address(both, "plain")],
    ]
    assert [row["name"] for row in json.loads(both.check_output("list", "--json"))] == [NAME, "plain"]


def test_ending_one_machine_does_not_affect_the_other(both: Person) -> None:
    """Runs last, since it deletes `plain`."""
    both.check_output("poweroff", "--vm", "plain")
    assert both.b2d("status", "--vm", "plain").returncode == 4
    both.check_output("delete", "--yes", "--vm", "plain")
    assert both.b2d("status", "--vm", "plain").returncode == 3
    assert both.check_output("status") == "running\n"
    assert both.docker("run", "--rm", "hello", "echo", "here") == "here\n"
    assert both.check_output("list").count("\n") == 2
