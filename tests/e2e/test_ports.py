"""Published ports on this host, with a real machine and the real docker client."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.host.polling import wait_until
from b2d.host.process_identity import is_alive
from b2d.models import ProcessIdentity
from tests.e2e.conftest import Person, alone
from tests.e2e.web import fetch, refused, server_command

pytestmark = pytest.mark.qemu

HERE = Path(__file__).resolve().parent
SOON_S = 0.5
REST_S, RESTING = 3.0, 0.0033  # the CPU share allowed for an idle process
TCP, ALONE, UDP, LOW, BUSY = 20080, 20081, 20053, 81, 20099
# sends UDP datagrams until one returns, for five seconds
ECHOED = """
import socket, sys, time
ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ours.settimeout(0.1)
ours.connect((sys.argv[1], int(sys.argv[2])))
end = time.monotonic() + 5
while time.monotonic() < end:
    try:
        ours.send(b"ping")
        sys.exit(ours.recv(100) != b"ping")
    except (TimeoutError, ConnectionRefusedError):  # nobody there yet
        pass
sys.exit(1)
"""


def companion(up: Person) -> ProcessIdentity:
    return ProcessIdentity(**json.loads(up.paths.agent_process.read_bytes())["companion"])


@pytest.fixture
def web(up: Person) -> Iterator[Person]:
    """Start a container that publishes one port for all and one for this host only."""
    ports = ("-p", f"{TCP}:80", "-p", f"127.0.0.1:{ALONE}:80", "-p", f"{LOW}:80")
    up.docker("run", "-d", "--name", "web", *ports, "hello", *server_command("hey"))
    yield up
    up.run_docker("rm", "-f", "web")


def test_a_published_port_opens_and_closes_at_once(web: Person) -> None:
    for address, port in ((web.address, TCP), ("127.0.0.1", TCP), ("127.0.0.1", ALONE), (web.address, LOW)):
        wait_until(lambda at=(address, port): fetch(*at) == "hey", condition=f"{address}:{port}", timeout_s=SOON_S)  # type: ignore[misc]
    assert refused(web.address, ALONE)
    assert refused("127.0.0.2", TCP)
    web.docker("rm", "-f", "web")
    for address, port in ((web.address, TCP), ("127.0.0.1", TCP), ("127.0.0.1", ALONE), (web.address, LOW)):
        wait_until(lambda at=(address, port): refused(*at), condition=f"the end of {address}:{port}", timeout_s=SOON_S)  # type: ignore[misc]


@pytest.fixture
def apart(person: Person) -> Iterator[Person]:
    with alone(person, "udp") as someone:
        yield someone


def test_udp_works_both_ways(apart: Person, tmp_path: Path) -> None:
    subprocess.run(["gcc", "-static", "-o", tmp_path / "echo", HERE / "echo.c"], check=True)
    program = subprocess.run(["tar", "-cC", tmp_path, "echo"], stdout=subprocess.PIPE, check=True).stdout
    apart.check_output("up")
    apart.docker("import", "-", "echo", stdin=program)
    apart.docker("run", "-d", "-p", f"{UDP}:53/udp", "-p", f"127.0.0.1:{ALONE}:53/udp", "echo", "/echo", "53")
    for address, port in ((apart.check_output("ip").strip(), UDP), ("127.0.0.1", UDP), ("127.0.0.1", ALONE)):
        completed = subprocess.run([*apart.within, sys.executable, "-c", ECHOED, address, str(port)], check=False)
        assert completed.returncode == 0, (address, port)


def test_without_a_network_udp_ports_are_reported_as_unavailable(up: Person) -> None:
    up.docker("run", "-d", "--name", "dns", "-p", f"{UDP}:53/udp", "hello", "sleep", "1000")
    assert {row["state"] for row in json.loads(up.check_output("ports", "--json"))} == {"no UDP with restrict"}
    up.docker("rm", "-f", "dns")


def test_a_port_in_use_is_reported_and_forwarded_when_free(up: Person) -> None:
    with socket.create_server(("127.0.0.1", BUSY)):
        up.docker("run", "-d", "--name", "busy", "-p", f"{BUSY}:80", "hello", *server_command("mine"))
        wait_until(lambda: fetch(up.address, BUSY) == "mine", condition="its own address", timeout_s=SOON_S)
        table = up.check_output("ports")
        assert f", pid {os.getpid()} has this port\n" in table
        assert f"{up.address}:{BUSY}  open\n" in table
    wait_until(lambda: fetch("127.0.0.1", BUSY) == "mine", condition="the port", timeout_s=3)
    assert [row["state"] for row in json.loads(up.check_output("ports", "--json"))] == ["open", "open"]
    up.docker("rm", "-f", "busy")
    assert up.check_output("ports") == ""


def test_the_next_command_that_uses_the_machine_restarts_the_agent(web: Person) -> None:
    wait_until(lambda: fetch("127.0.0.1", TCP) == "hey", condition="the port", timeout_s=5)
    before = companion(web)
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(before), condition="its end", timeout_s=5)
    web.docker("rm", "-f", "web")
    assert not refused("127.0.0.1", TCP)
    web.check_output("info")
    assert companion(web) == before  # read-only commands start nothing
    web.check_output("ssh", "true")
    assert companion(web) != before
    wait_until(lambda: refused("127.0.0.1", TCP), condition="what was left to go", timeout_s=5)


def test_many_ports_leak_no_sockets(up: Person) -> None:
    process = up.paths.qemu_pid.read_text().strip()
    open_files = Path(f"/proc/{process}/fd")
    held = len(list(open_files.iterdir()))
    for first in (21000, 21020, 21040):
        last = first + 19
        up.docker("run", "-d", "--name", "many", "-p", f"0.0.0.0:{first}-{last}:1000-1019", "hello", "sleep", "1000")
        wait_until(lambda port=last: not refused("127.0.0.1", port), condition="the last", timeout_s=10)  # type: ignore[misc]
        up.docker("rm", "-f", "many")
        wait_until(lambda port=last: refused("127.0.0.1", port), condition="its end", timeout_s=10)  # type: ignore[misc]
    wait_until(lambda: len(list(open_files.iterdir())) <= held + 5, condition="sockets to go", timeout_s=10)


def test_the_agent_uses_little_memory_and_cpu_time(up: Person) -> None:
    status = Path(f"/proc/{companion(up).pid}/status").read_text()
    assert int(status.partition("VmRSS:")[2].split()[0]) < 30 * 1024
    before = used_ns(companion(up))
    time.sleep(REST_S)
    assert used_ns(companion(up)) - before < RESTING * REST_S * 1e9


def used_ns(process: ProcessIdentity) -> int:
    """Return the CPU time of its threads in nanoseconds, from schedstat (proc(5)): the ticks of stat are too coarse."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"))


def test_forwards_end_with_the_machine_and_start_with_it(web: Person) -> None:
    web.docker("update", "--restart", "always", "web")
    before = companion(web)
    web.check_output("save")
    wait_until(lambda: not is_alive(before), condition="the companion's end", timeout_s=10)
    assert refused("127.0.0.1", TCP)
    web.check_output("up")
    wait_until(lambda: fetch("127.0.0.1", TCP) == "hey", condition="the port", timeout_s=5)
    web.check_output("stop")
    assert refused("127.0.0.1", TCP)
    web.check_output("up")
    wait_until(lambda: fetch("127.0.0.1", TCP) == "hey", condition="the port", timeout_s=5)
