"""Other programs use a real machine: over its socket, from Python and in pytest."""

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from b2d import Machine
from b2d.app.agent_process import DIAL_S
from b2d.host import unix_sockets
from b2d.host.polling import wait_until
from b2d.host.process_identity import is_alive
from tests.e2e.conftest import Person
from tests.e2e.test_ports import companion
from tests.support.timing import not_waiting_for

pytestmark = pytest.mark.qemu


def by_socket(person: Person, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the docker client, which knows nothing but the machine's socket."""
    known = person.environment | {"DOCKER_HOST": json.loads(person.check_output("info"))["socket"]["host"]}
    return subprocess.run(["docker", *arguments], input=stdin, capture_output=True, env=known, check=False, timeout=120)


def test_the_socket_answers_when_up_ends_and_only_to_its_owner(up: Person) -> None:
    up.check_output("save")
    up.check_output("up")
    assert unix_sockets.answers(up.paths.docker_socket)
    assert by_socket(up, "version", "--format", "{{.Server.Os}}").stdout == b"linux\n"
    assert stat.S_IMODE(up.paths.docker_socket.stat().st_mode) == 0o600
    assert json.loads(up.check_output("info"))["socket"]["answers"] is True


def test_stdin_of_a_container_ends_and_its_output_is_complete(up: Person) -> None:
    given = os.urandom(3_000_000)
    completed = by_socket(up, "run", "-i", "--rm", "hello", "sha256sum", stdin=given)
    expected = subprocess.run(["sha256sum"], input=given, capture_output=True, check=True).stdout
    assert completed.stdout == expected, completed.stderr
    by_socket(up, "run", "-d", "--name", "aside", "hello", "sleep", "1000")
    with ThreadPoolExecutor(6) as many:
        count = ("exec", "-i", "aside", "/usr/bin/busybox", "wc", "-c")
        counted = many.map(lambda n: by_socket(up, *count, stdin=b"x" * n).stdout, range(6))
        assert [int(number) for number in counted] == list(range(6))
    assert by_socket(up, "exec", "aside", "/usr/bin/busybox", "sh", "-c", "exit 7").returncode == 7
    assert by_socket(up, "rm", "-f", "aside").stdout == b"aside\n"
    status = Path(f"/proc/{companion(up).pid}/status").read_text()
    assert int(status.partition("VmRSS:")[2].split()[0]) < 30 * 1024


def test_an_image_is_saved_and_loaded_unchanged(up: Person) -> None:
    saved = by_socket(up, "save", "hello").stdout
    assert by_socket(up, "rmi", "hello").returncode == 0
    assert b"hello" in by_socket(up, "load", stdin=saved).stdout
    assert up.docker("run", "--rm", "hello", "echo", "hey") == "hey\n"


def test_a_killed_agent_leaves_a_socket_that_refuses_and_the_next_agent_serves_it(up: Person) -> None:
    before = companion(up)
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(before), condition="its end", timeout_s=5)
    assert up.paths.docker_socket.exists()
    assert not unix_sockets.answers(up.paths.docker_socket)
    up.check_output("info")
    assert not unix_sockets.answers(up.paths.docker_socket)  # read-only commands start nothing
    up.check_output("ssh", "true")
    wait_until(lambda: unix_sockets.answers(up.paths.docker_socket), condition="the socket", timeout_s=5)
    assert by_socket(up, "ps").returncode == 0


def test_without_the_machine_there_is_no_socket_and_clients_fail_at_once(up: Person) -> None:
    up.check_output("save")
    with not_waiting_for(DIAL_S):
        assert by_socket(up, "ps").returncode != 0
    wait_until(lambda: not up.paths.docker_socket.exists(), condition="its end", timeout_s=5)
    up.check_output("up")
    assert by_socket(up, "ps").returncode == 0
    up.check_output("poweroff")
    wait_until(lambda: not up.paths.docker_socket.exists(), condition="its end", timeout_s=5)
    assert json.loads(up.check_output("info"))["socket"]["answers"] is False


@pytest.fixture
def machine(up: Person, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return the machine for this process."""
    monkeypatch.setenv("HOME", str(up.folder))  # the docker client's configuration is there
    return Machine(home=up.home.root)


def test_python_starts_the_machine_and_restores_its_state(
    machine: Machine, up: Person, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert machine.state() == "stopped"
    machine.set(memory=1100)
    with machine:
        assert (machine.ip(), machine.state(), machine.info()["has"]["memory_mib"]) == (up.address, "running", 1100)  # type: ignore[index]
        run = ["docker", "run", "-d", "-p", "20090:80", "--name", "web", "hello", "sleep", "1000"]
        subprocess.run(run, env=up.environment | machine.docker_env(), check=True, stdout=subprocess.PIPE)
        wait_until(lambda: {port.state for port in machine.ports()} == {"open"}, condition="the port", timeout_s=5)
        assert {(port.container, port.port) for port in machine.ports()} == {("web", 20090)}
        with ThreadPoolExecutor(4) as many:
            codes = many.map(lambda n: machine.ssh("sh", "-c", f"echo {n}; exit {n}"), range(4))
            assert [(port.exit_code, port.stdout) for port in codes] == [(n, b"%d\n" % n) for n in range(4)]
        assert "b2d: " in machine.logs() and machine.logs("docker", 1).count("\n") == 1
        (tmp_path / "sent").write_bytes(b"to and fro")
        assert machine.send(tmp_path / "sent", "/tmp/there").path == "/tmp/there"
        assert machine.fetch("/tmp/there", tmp_path / "back").files == 1
        assert (tmp_path / "back").read_bytes() == b"to and fro"
        (config := tmp_path / "config").write_text(machine.ssh_config())
        by_ssh = subprocess.run(["ssh", "-F", config, machine.name, "hostname"], stdout=subprocess.PIPE, check=True)
        assert by_ssh.stdout == b"boot2docker\n"
        files = machine.disk().files
        assert files is not None and 0 < files.used < files.size
        assert machine.compact().done
        assert machine.screenshot().startswith(b"\x89PNG")
        machine.save()
        machine.up()
    assert machine.state() == "stopped"
    assert capfd.readouterr() == ("", "")


def test_pytest_provides_the_machine_and_restores_its_state(machine: Machine, up: Person, tmp_path: Path) -> None:
    machine.up()
    machine.save()
    tests = tmp_path / "test_theirs.py"
    tests.write_text(
        "import subprocess\n"
        "def test_a_container(docker_host, b2d_machine):\n"
        "    run = ['docker', 'run', '--rm', 'hello', 'echo', 'hey']\n"
        "    assert docker_host.endswith(b2d_machine.ip() + ':2376')\n"
        "    assert subprocess.run(run, stdout=subprocess.PIPE, check=True).stdout == b'hey\\n'\n"
    )
    known = up.environment | {"B2D_HOME": str(up.home.root)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--b2d-machine",
        machine.name,
        "-p",
        "no:cacheprovider",
        str(tests),
    ]
    completed = subprocess.run(
        command, env=known, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert "1 passed" in completed.stdout, completed.stdout + completed.stderr
    assert machine.state() == "saved"
