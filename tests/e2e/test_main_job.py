"""The main workflow on a real QEMU machine with the real docker client."""

import hashlib
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from b2d.host.polling import wait_until
from b2d.host.process_identity import identify
from tests.e2e.conftest import B2D, NAME, Person, boot
from tests.support.timing import wall_limit

pytestmark = pytest.mark.qemu

ODD_ARGUMENTS = ["two words", "it's", '"quoted"', "$HOME", "a\nb", "*", "grüße 🐳", "", "\\", "a;b|c&d"]


@pytest.fixture(scope="module")
def up(person: Person) -> Person:
    """Return the user with a machine that was created and booted here, and the image `hello`."""
    boot(person)
    return person


def test_a_machine_is_created_started_and_runs_a_container(up: Person) -> None:
    assert up.docker("run", "--rm", "hello", "echo", "hi") == "hi\n"
    assert up.check_output("status") == "running\n"
    assert up.check_output("ip") == f"{up.address}\n"
    assert up.address.startswith("127.0.59.")


def test_the_commands_of_2014_still_work(up: Person) -> None:
    completed = up.sh("boot2docker up && $(boot2docker shellinit) && docker ps && boot2docker ip && boot2docker status")
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines()[-2:] == [up.address.encode(), b"running"]


def test_init_and_up_of_a_running_machine_succeed(up: Person) -> None:
    assert up.b2d("init").returncode == 0
    assert up.b2d("up").returncode == 0


def test_only_the_client_certificate_of_the_machine_is_accepted(up: Person, tmp_path: Path) -> None:
    stranger = tmp_path / "certs"
    script = f"""
        mkdir {stranger} && cp {up.paths.certs}/ca.pem {stranger}
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=stranger -keyout {stranger}/key.pem -out {stranger}/cert.pem
        eval "$(b2d shellinit)" && DOCKER_CERT_PATH={stranger} docker version"""
    completed = up.sh(script)
    assert completed.returncode != 0
    assert b"certificate" in completed.stderr.splitlines()[-1]
    none = up.sh('eval "$(b2d shellinit)"; exec curl -ks "https://${DOCKER_HOST#tcp://}/version"')
    assert none.returncode != 0
    assert not none.stdout


@pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 255])
def test_ssh_exits_with_the_code_of_its_command(up: Person, code: int) -> None:
    assert up.b2d("ssh", "--", f"exit {code}").returncode == code


def test_openssh_connects_with_the_block_of_ssh_config(up: Person) -> None:
    (up.folder / "config").write_text(up.check_output("ssh-config", "--host", "box"))
    script = "echo there >file && scp -q -F config file box: && ssh -F config box cat file"
    completed = up.sh(f"ssh -F config box 'echo from $(hostname)' && {script}")
    assert (completed.stdout, completed.stderr) == (b"from boot2docker\nthere\n", b"")


def test_files_are_copied_both_ways_unchanged(up: Person, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub" / "grüße 🐳").mkdir(parents=True)
    (tree / "big").write_bytes(os.urandom(3_000_001))
    (tree / "sub" / "run.sh").write_text("#!/bin/sh\necho it runs\n")
    (tree / "sub" / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("/etc/passwd")
    document = json.loads(up.check_output("cp", "--json", str(tree), ":/tmp"))
    assert document == {"name": NAME, "files": 3, "paths": ["/tmp/tree"]}
    stdout = up.check_output("ssh", "cd /tmp/tree && sub/run.sh && readlink link && sha256sum big")
    assert stdout.split() == [
        "it",
        "runs",
        "/etc/passwd",
        hashlib.sha256((tree / "big").read_bytes()).hexdigest(),
        "big",
    ]
    assert "b2d-" not in up.check_output("ssh", "ls -A /tmp")
    up.check_output("cp", f"{NAME}:/tmp/tree", "back")
    assert up.sh(f"diff -r --no-dereference {tree} back && test -x back/sub/run.sh").returncode == 0
    up.check_output("cp", str(tree / "link"), str(tree / "sub"), ":")
    assert up.check_output("ssh", "ls -d link sub").split() == ["link", "sub"]
    listed = up.sh("tar -c back | b2d cp - :/tmp && b2d cp :/tmp/back - | tar -t | sort | tail -1")
    assert listed.stdout == b"back/sub/run.sh\n"


def test_an_impossible_copy_is_reported_and_leaves_nothing(up: Person, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(9_000_000))
    up.check_output("ssh", "sudo mkdir -p /tmp/small && sudo mount -t tmpfs -o size=1m,mode=1777 none /tmp/small")
    for arguments, message in (
        ((str(tmp_path / "big"), ":/etc/big"), "/etc: Permission denied"),
        ((":/etc/shadow", "shadow"), "Permission denied"),
        ((":/none", "none"), "No such file or directory"),
        ((str(tmp_path / "big"), ":/tmp/small"), "No space left on device"),
    ):
        result = up.b2d("cp", *arguments)
        assert (result.returncode, result.stdout) == (1, b"")
        assert message in result.stderr.decode()
    assert up.check_output("ssh", "ls -A /tmp/small && sudo umount /tmp/small") == ""
    assert not (up.folder / "shadow").exists()
    command = [str(B2D), "cp", str(tmp_path / "big"), ":/tmp/big"]
    copying = subprocess.Popen(command, env=up.environment, cwd=up.folder, stderr=subprocess.DEVNULL)
    wait_until(lambda: "b2d-" in up.check_output("ssh", "ls -A /tmp"), condition="the copy", timeout_s=30)
    copying.send_signal(signal.SIGINT)
    assert copying.wait(20) == 130
    wait_until(
        lambda: "b2d-" not in up.check_output("ssh", "ls -A /tmp"), condition="the guest to tidy up", timeout_s=30
    )
    assert "big" not in up.check_output("ssh", "ls /tmp").split()


def test_docker_has_a_context_for_the_machine_that_is_not_selected(up: Person) -> None:
    script = "docker --context boot2docker-vm images --format '{{.Repository}}' && docker context show"
    completed = up.sh(script)
    assert completed.stdout.split()[0] == b"hello", completed.stderr
    assert completed.stdout.split()[-1] == b"default"
    assert up.check_output("context") == "boot2docker-vm\n"


def test_run_executes_a_command_with_the_docker_of_the_machine(up: Person) -> None:
    listed = up.check_output("run", "docker", "images", "--format", "{{.Repository}}")
    assert "hello" in listed.split()
    assert up.b2d("run", "--", "sh", "-c", "exit 7").returncode == 7
    assert up.b2d("run", "sh", "-c", "kill -TERM $$").returncode == 143
    result = up.b2d("run", "no-such-program")
    assert (result.returncode, result.stdout) == (127, b"")
    assert b"no-such-program is not installed" in result.stderr
    assert up.check_output("run", "sh", "-c", "echo $B2D_BEFORE $DOCKER_TLS_VERIFY --json") == "1 --json\n"


def test_ssh_passes_arguments_exactly(up: Person) -> None:
    completed = up.b2d("ssh", "--", "printf", "%s\\0", *ODD_ARGUMENTS)
    assert completed.stdout.decode().split("\0")[:-1] == ODD_ARGUMENTS


def test_ssh_separates_stdout_and_stderr(up: Person) -> None:
    completed = up.b2d("ssh", "echo out; echo err >&2")
    assert (completed.stdout, completed.stderr) == (b"out\n", b"err\n")


def test_ten_megabytes_pass_through_ssh_unchanged(up: Person) -> None:
    content = os.urandom(10_000_000)
    completed = up.b2d("ssh", "--", "sha256sum", stdin=content)
    assert completed.stdout.split()[0].decode() == hashlib.sha256(content).hexdigest()
    back = up.b2d("ssh", "--", "cat", stdin=content)
    assert back.stdout == content


def test_the_guest_has_the_expected_user_clock_and_disk(up: Person) -> None:
    stdout = up.check_output(
        "ssh", "id -un; id -u; sudo -n id -u; date +%s; findmnt 2>/dev/null; grep -c ' /mnt/vda1 ext4' /proc/mounts"
    )
    user, uid, root, clock, mounted = stdout.split()
    assert (user, uid, root, mounted) == ("docker", "1000", "0", "1")
    assert abs(int(clock) - time.time()) < 5


def test_containers_have_address_space_randomization(up: Person) -> None:
    """On an emulated CPU dockerd runs without ASLR, which containers must not inherit."""
    assert int(up.docker("run", "--rm", "hello", "cat", "/proc/self/personality"), 16) == 0


def test_a_running_container_can_be_updated(up: Person) -> None:
    """Docker's runtime reads the update from /dev/stdin."""
    up.docker("run", "-d", "--name", "changed", "hello", "sleep", "1000")
    up.docker("update", "--memory", "64m", "--memory-swap", "64m", "changed")
    up.docker("rm", "-f", "changed")
    assert up.check_output("ssh", "echo hi | cat /dev/fd/0 /dev/stdin") == "hi\n"


def test_a_screenshot_is_a_png(up: Person) -> None:
    assert up.check_output("screenshot", "screen.png") == ""
    assert (up.folder / "screen.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_doctor_reports_a_running_machine_as_good_within_five_seconds(up: Person) -> None:
    with wall_limit(5):
        output = up.b2d("doctor", "--json").stdout
    findings = [finding for finding in json.loads(output) if finding["machine"] == NAME]
    assert {finding["name"]: finding["verdict"] for finding in findings} == {
        **dict.fromkeys(("machine", "agent", "clock", "certificates", "image"), "good"),
    }


def test_the_support_archive_of_a_running_machine_contains_the_docker_log_and_no_key(up: Person) -> None:
    path = up.check_output("support").strip()
    with tarfile.open(path) as archive:
        files = {entry.name: file.read() for entry in archive if (file := archive.extractfile(entry)) is not None}
    assert b"API listen on" in files[f"b2d-support/machines/{NAME}/docker.log"]
    assert f"b2d-support/machines/{NAME}/qemu.log" in files
    key = up.paths.ssh_key.read_bytes().splitlines()[1]
    assert not [name for name, content in files.items() if key in content]


def test_the_docker_log_is_followed_until_the_machine_is_saved(up: Person) -> None:
    command = [str(B2D), "logs", "--docker", "-f", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=up.environment) as following:
        assert following.stdout is not None and following.stderr is not None
        assert following.stdout.readline() != b""
        up.check_output("ssh", "--", "echo something new | sudo tee -a /var/log/docker.log")
        while following.stdout.readline() != b"something new\n":
            pass
        up.check_output("save")
        assert following.wait(30) == 0
        assert following.stderr.read().decode() == f"{NAME} has ended, and so has its log\n"
    up.check_output("up")


def test_an_idle_machine_uses_little_memory(up: Person) -> None:
    used = int(up.check_output("ssh", "free -m").splitlines()[1].split()[2])
    assert used <= 125  # MiB


def test_data_and_restarting_containers_survive_a_restart(up: Person) -> None:
    up.docker("run", "--rm", "-v", "kept:/kept", "hello", "sh", "-c", "echo 42 >/kept/answer")
    for name, network in (("always", "bridge"), ("on-host", "host")):
        options = ("-d", "--init", "--name", name, "--network", network, "--restart", "always")
        up.docker("run", *options, "hello", "sleep", "100000")
    none = up.docker("network", "inspect", "none", "--format", "{{.Id}}")
    assert up.b2d("stop").returncode == 0
    assert up.b2d("status").returncode == 4
    assert up.b2d("stop").returncode == 0
    assert up.b2d("shellinit").stdout == b""
    up.check_output("start")
    assert up.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer") == "42\n"
    assert up.docker("inspect", "--format", "{{.State.Running}}", "always", "on-host") == "true\ntrue\n"
    assert up.docker("network", "inspect", "none", "--format", "{{.Id}}") != none  # dockerd's own are made anew
    up.docker("rm", "-f", "always", "on-host")


def test_networks_survive_a_restart(up: Person) -> None:
    up.docker("network", "create", "--subnet", "172.30.0.0/24", "mine")
    options = ("-d", "--init", "--network", "mine", "--ip", "172.30.0.7", "--restart", "always", "--name", "inside")
    up.docker("run", *options, "hello", "sleep", "100000")
    networks = up.docker("network", "inspect", "mine", "none", "--format", "{{.Id}}")
    up.check_output("restart")
    assert up.docker("network", "inspect", "mine", "none", "--format", "{{.Id}}") == networks
    shown = ("{{.State.Running}} {{.NetworkSettings.Networks.mine.IPAddress}}", "inside")
    assert up.docker("inspect", "--format", *shown) == "true 172.30.0.7\n"
    up.docker("rm", "-f", "inside")
    up.docker("network", "rm", "mine")


def test_a_saved_machine_resumes_where_it_stopped(up: Person) -> None:
    count = "i=0; while :; do i=$((i+1)); echo $i; /usr/bin/busybox sleep 0.2; done"
    up.docker("run", "-d", "--name", "counter", "hello", "sh", "-c", count)
    wait_until(lambda: len(up.docker("logs", "counter").split()) > 3, condition="the counter", timeout_s=30)
    before = int(up.docker("logs", "counter").split()[-1])
    up.check_output("save")
    assert up.b2d("status").stdout == b"saved\n"
    assert b"is saved and off already" in up.b2d("stop").stderr
    time.sleep(3)
    assert b"kernel" not in up.b2d("up").stderr
    wait_until(
        lambda: int(up.docker("logs", "counter").split()[-1]) > before + 3, condition="the counter", timeout_s=30
    )
    numbers = [int(number) for number in up.docker("logs", "counter").split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert abs(int(up.check_output("ssh", "date +%s")) - time.time()) <= 2
    assert up.docker("inspect", "--format", "{{.RestartCount}}", "counter") == "0\n"
    up.docker("rm", "-f", "counter")


def test_a_killed_machine_is_reported_and_starts_again(up: Person) -> None:
    os.kill(int(up.paths.qemu_pid.read_text()), signal.SIGKILL)
    wait_until(lambda: up.b2d("status").stdout == b"crashed\n", condition="crashed", timeout_s=10)
    assert up.b2d("status").returncode == 4
    assert up.b2d("shellinit").returncode == 4
    up.check_output("up")
    assert up.docker("run", "--rm", "hello", "echo", "back") == "back\n"


def test_the_machine_runs_in_another_session_than_this_terminal(up: Person) -> None:
    pid = int(up.paths.qemu_pid.read_text())
    assert identify(pid) is not None
    assert os.getsid(pid) != os.getsid(0)


def test_up_succeeds_after_ctrl_c_during_the_boot(up: Person) -> None:
    up.check_output("stop")
    process = subprocess.Popen(
        [str(B2D), "up"], env=up.environment, cwd=up.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(lambda: up.b2d("status").stdout == b"running\n", condition="qemu", timeout_s=30)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert not up.paths.env.exists()
    up.check_output("up")
    assert up.docker("run", "--rm", "hello", "echo", "still") == "still\n"


def test_a_stopped_machine_gets_a_larger_disk_with_its_data(up: Person) -> None:
    refused = up.b2d("set", "disk=30000")
    assert refused.returncode == 4
    assert b"grows only while it is off" in refused.stderr
    up.check_output("stop")
    up.check_output("set", "disk=30000")
    up.check_output("up")
    assert int(up.check_output("ssh", "df -m /mnt/vda1 | tail -1").split()[1]) > 27000  # the old default was 18000
    assert up.docker("run", "--rm", "-v", "kept:/kept", "hello", "cat", "/kept/answer") == "42\n"


def test_a_machine_that_boots_is_stopped_cleanly(up: Person) -> None:
    """Its kernel misses the first press of the power button."""
    up.check_output("stop")
    with subprocess.Popen([str(B2D), "up"], env=up.environment, cwd=up.folder, stderr=subprocess.PIPE) as process:
        wait_until(lambda: up.b2d("status").stdout == b"running\n", condition="qemu", timeout_s=30)
        process.send_signal(signal.SIGINT)
        completed = up.b2d("stop")
    assert completed.returncode == 0
    assert b"its power was cut" not in completed.stderr
    assert "b2d: " in up.paths.serial_log.read_text()


def test_a_port_in_use_is_found_before_the_boot_and_replaced(up: Person) -> None:
    import socket

    up.check_output("stop")
    with socket.create_server((up.address, 2376)):
        completed = up.b2d("up")
    assert completed.returncode == 0
    assert b"2376" in completed.stderr
    assert up.docker("run", "--rm", "hello", "echo", "there") == "there\n"


def unit_of(person: Person) -> Path:
    return person.folder / ".config" / "systemd" / "user" / f"b2d-{NAME}.service"


def test_the_autostart_commands_start_and_stop_the_machine(up: Person) -> None:
    assert up.check_output("autostart") == "disabled\n"
    assert json.loads(up.check_output("autostart", "enable", "--json"))["where"] == str(unit_of(up))
    assert up.check_output("autostart") == "enabled\n"
    lines = dict(line.split("=", 1) for line in unit_of(up).read_text().splitlines() if "=" in line)
    bare = f"exec env -i HOME={up.folder} LANG=C {lines['Environment']}"  # as systemd sets it
    for moment, state in (("ExecStop", b"stopped\n"), ("ExecStart", b"running\n"), ("ExecStart", b"running\n")):
        completed = up.sh(f"{bare} {lines[moment]}")
        assert (completed.returncode, completed.stdout) == (0, b""), completed.stderr
        assert up.b2d("status").stdout == state
    assert up.docker("run", "--rm", "hello", "echo", "there") == "there\n"


def test_delete_asks_for_confirmation_and_leaves_nothing(up: Person) -> None:
    refused = up.b2d("delete")
    assert refused.returncode == 2
    assert b"--yes" in refused.stderr
    up.check_output("delete", "--yes")
    assert up.b2d("status").returncode == 3
    assert not up.paths.folder.exists()
    assert not unit_of(up).exists()
    assert [path.name for path in up.home.machines.iterdir() if NAME in path.name and path.is_dir()] == []
    assert up.b2d("delete", "--yes").returncode == 0
