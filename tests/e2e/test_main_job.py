"""The main job, as a person does it, on a real machine of QEMU with the real docker client."""

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from b2d.identity import identify
from b2d.wait import wait_until
from tests.e2e.conftest import B2D, NAME, Person

pytestmark = pytest.mark.qemu

ODD_ARGUMENTS = ["two words", "it's", '"quoted"', "$HOME", "a\nb", "*", "grüße 🐳", "", "\\", "a;b|c&d"]


def test_a_machine_is_made_and_started_and_runs_a_container(up: Person) -> None:
    assert up.docker("run", "--rm", "hello", "echo", "hi") == "hi\n"
    assert up.does("status") == "running\n"
    assert up.does("ip") == f"{up.address}\n"
    assert up.address.startswith("127.0.59.")


def test_the_words_of_2014_do_what_they_did(up: Person) -> None:
    done = up.sh("boot2docker up && $(boot2docker shellinit) && docker ps && boot2docker ip && boot2docker status")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [up.address.encode(), b"running"]


def test_what_is_so_already_is_fine(up: Person) -> None:
    assert up.b2d("init").returncode == 0
    assert up.b2d("up").returncode == 0


def test_only_the_machine_s_own_client_is_let_in(up: Person, tmp_path: Path) -> None:
    stranger = tmp_path / "certs"
    script = f"""
        mkdir {stranger} && cp {up.paths.certs}/ca.pem {stranger}
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=stranger -keyout {stranger}/key.pem -out {stranger}/cert.pem
        eval "$(b2d shellinit)" && DOCKER_CERT_PATH={stranger} docker version"""
    done = up.sh(script)
    assert done.returncode != 0
    assert b"certificate" in done.stderr.splitlines()[-1]
    none = up.sh('eval "$(b2d shellinit)"; exec curl -ks "https://${DOCKER_HOST#tcp://}/version"')
    assert none.returncode != 0
    assert not none.stdout


@pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 255])
def test_ssh_ends_as_its_command_does(up: Person, code: int) -> None:
    assert up.b2d("ssh", "--", f"exit {code}").returncode == code


def test_ssh_gives_arguments_exactly(up: Person) -> None:
    done = up.b2d("ssh", "--", "printf", "%s\\0", *ODD_ARGUMENTS)
    assert done.stdout.decode().split("\0")[:-1] == ODD_ARGUMENTS


def test_ssh_keeps_stdout_and_stderr_apart(up: Person) -> None:
    done = up.b2d("ssh", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_ten_megabytes_go_through_ssh_unharmed(up: Person) -> None:
    content = os.urandom(10_000_000)
    done = up.b2d("ssh", "--", "sha256sum", stdin=content)
    assert done.stdout.split()[0].decode() == hashlib.sha256(content).hexdigest()
    back = up.b2d("ssh", "--", "cat", stdin=content)
    assert back.stdout == content


def test_the_guest_is_what_it_should_be(up: Person) -> None:
    said = up.does(
        "ssh", "id -un; id -u; sudo -n id -u; date +%s; findmnt 2>/dev/null; grep -c ' /mnt/vda1 ext4' /proc/mounts"
    )
    user, uid, root, clock, mounted = said.split()
    assert (user, uid, root, mounted) == ("docker", "1000", "0", "1")
    assert abs(int(clock) - time.time()) < 5


def test_containers_have_random_addresses(up: Person) -> None:
    """dockerd is started without them where the CPU is emulated; what it starts must not inherit that."""
    assert int(up.docker("run", "--rm", "hello", "cat", "/proc/self/personality"), 16) == 0


def test_its_screen_is_a_picture(up: Person) -> None:
    assert up.does("screenshot", "screen.png") == ""
    assert (up.folder / "screen.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_an_idle_machine_uses_little_memory(up: Person) -> None:
    used = int(up.does("ssh", "free -m").splitlines()[1].split()[2])
    assert used <= 125  # MiB


def test_data_and_restarting_containers_survive_a_restart(up: Person) -> None:
    up.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo 42 >/kept/answer")
    up.docker("run", "-d", "--init", "--name", "always", "--restart", "always", "hello", "sleep", "100000")
    assert up.b2d("stop").returncode == 0
    assert up.b2d("status").returncode == 4
    assert up.b2d("stop").returncode == 0
    assert up.b2d("shellinit").stdout == b""
    up.does("start")
    assert up.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer") == "42\n"
    assert up.docker("inspect", "--format", "{{.State.Running}}", "always") == "true\n"
    up.docker("rm", "-f", "always")


def test_a_saved_machine_goes_on_where_it_was(up: Person) -> None:
    count = "i=0; while :; do i=$((i+1)); echo $i; /usr/bin/busybox sleep 0.2; done"
    up.docker("run", "-d", "--name", "counter", "hello", "sh", "-c", count)
    wait_until(lambda: len(up.docker("logs", "counter").split()) > 3, what="the counter", timeout_s=30)
    before = int(up.docker("logs", "counter").split()[-1])
    up.does("save")
    assert up.b2d("status").stdout == b"saved\n"
    time.sleep(3)
    up.does("up")
    wait_until(lambda: int(up.docker("logs", "counter").split()[-1]) > before + 3, what="the counter", timeout_s=30)
    numbers = [int(one) for one in up.docker("logs", "counter").split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert abs(int(up.does("ssh", "date +%s")) - time.time()) <= 2
    assert up.docker("inspect", "--format", "{{.RestartCount}}", "counter") == "0\n"
    up.docker("rm", "-f", "counter")


def test_a_killed_machine_is_told_and_comes_back(up: Person) -> None:
    os.kill(int(up.paths.qemu_pid.read_text()), signal.SIGKILL)
    wait_until(lambda: up.b2d("status").stdout == b"crashed\n", what="crashed", timeout_s=10)
    assert up.b2d("status").returncode == 4
    assert up.b2d("shellinit").returncode == 4
    up.does("up")
    assert up.docker("run", "--rm", "hello", "echo", "back") == "back\n"


def test_the_terminal_may_go_while_the_machine_stays(up: Person) -> None:
    pid = int(up.paths.qemu_pid.read_text())
    assert identify(pid) is not None
    assert os.getsid(pid) != os.getsid(0)


def test_ctrl_c_while_it_comes_up_leaves_a_machine_that_comes_up(up: Person) -> None:
    up.does("stop")
    process = subprocess.Popen(
        [str(B2D), "up"], env=up.environment, cwd=up.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(lambda: up.b2d("status").stdout == b"running\n", what="qemu", timeout_s=30)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert not up.paths.env.exists()
    up.does("up")
    assert up.docker("run", "--rm", "hello", "echo", "still") == "still\n"


def test_a_machine_that_is_off_gets_a_larger_disk_with_all_that_was_on_it(up: Person) -> None:
    refused = up.b2d("set", "disk=30000")
    assert refused.returncode == 4
    assert b"grows only while it is off" in refused.stderr
    up.does("stop")
    up.does("set", "disk=30000")
    up.does("up")
    assert int(up.does("ssh", "df -m /mnt/vda1 | tail -1").split()[1]) > 27000  # 18000 before
    assert up.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer") == "42\n"


def test_a_taken_port_is_found_before_the_boot_and_another_is_leased(up: Person) -> None:
    import socket

    up.does("stop")
    with socket.socket() as other:
        other.bind((up.address, 2376))
        other.listen()
        done = up.b2d("up")
    assert done.returncode == 0
    assert b"2376" in done.stderr
    assert up.docker("run", "--rm", "hello", "echo", "there") == "there\n"


def test_delete_asks_and_leaves_nothing(up: Person) -> None:
    refused = up.b2d("delete")
    assert refused.returncode == 2
    assert b"--yes" in refused.stderr
    up.does("delete", "--yes")
    assert up.b2d("status").returncode == 3
    assert not up.paths.folder.exists()
    assert [path.name for path in up.home.machines.iterdir() if NAME in path.name and path.is_dir()] == []
    assert up.b2d("delete", "--yes").returncode == 0
