"""A guest from boot to shutdown: access, tools, clock, and power off."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest

from b2d.drivers.qemu.qmp import Qmp
from b2d.guest.readiness import parse_stages
from b2d.host.polling import wait_until
from b2d.models import Image
from tests.e2e.conftest import Person
from tests.support import guest_without_docker, tiny_guest
from tests.support.raw_disks import DiskContent

pytestmark = pytest.mark.qemu

SLEPT_S, RIGHT_S = 10, 5
STORE = "/var/lib/boot2docker"
TOOLS = ["vi", "tar", "wget", "less", "top", "free", "df", "ip", "iptables", "mount", "ps", "ping", "docker"]
# the machine as b2d starts it, with a second network and a serial port for input
QEMU = """#!/bin/sh
for argument; do
    shift
    case $argument in
    file,id=serial,path=*)
        argument="socket,id=serial,path={serial},server=on,wait=off,logfile=${{argument#*path=}}" ;;
    esac
    set -- "$@" "$argument"
done
exec {qemu} "$@" -netdev user,id=second,net=10.9.0.0/24,restrict=on -device virtio-net-pci,netdev=second
"""
DEAF = 'trap "" TERM; while :; do echo x >/noise; /usr/bin/busybox sleep 1; done'


class Terminal:
    """The guest's serial console."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.settimeout(0.2)

    def type(self, line: str) -> None:
        self._socket.sendall(f"{line}\r".encode())

    def read_until(self, wanted: str, timeout_s: float = 60.0) -> str:
        """Return all output up to and including `wanted`."""
        output = ""
        end = time.monotonic() + timeout_s
        while wanted not in output:
            assert time.monotonic() < end, f"no {wanted!r} in {output!r}"
            try:
                output += self._socket.recv(4096).decode(errors="replace")
            except TimeoutError:
                continue
        return output

    def log_out(self) -> None:
        """Log out; an open terminal without a reader would block the guest's output."""
        with suppress(OSError):  # the machine may be off
            self.type("exit")
        self._socket.close()

    def log_in(self, password: str, then: str) -> None:
        self.type("")
        self.read_until("login: ")
        self.type("docker")
        self.read_until("Password: ")
        self.type(password)
        self.read_until(then)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serial") / "socket"


@pytest.fixture(scope="module")
def alive(person: Person, serial: Path) -> Person:
    program = serial.with_name("qemu-system-x86_64")
    program.write_text(QEMU.format(serial=serial, qemu=shutil.which(program.name)))
    program.chmod(0o755)
    person.environment |= {"PATH": f"{program.parent}{os.pathsep}{person.environment['PATH']}", "B2D_DISK": "1000"}
    person.check_output("up")
    person.create_hello_image()
    return person


@pytest.fixture
def terminal(alive: Person, serial: Path) -> Iterator[Terminal]:
    terminal = Terminal(serial)
    yield terminal
    terminal.log_out()


def disk_of(person: Person, folder: Path) -> DiskContent:
    raw = folder / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(person.paths.disk_qcow2), str(raw)], check=True)
    return DiskContent(raw)


def wait_until_off(person: Person) -> bool:
    return person.b2d("status").stdout == b"stopped\n"


def assert_right_soon(person: Person) -> None:
    time.sleep(RIGHT_S)
    begin = time.time()
    guest = float(person.check_output("ssh", "echo $EPOCHREALTIME"))
    assert begin - 1 < guest < time.time() + 1


def password_is_taken(person: Person, password: str) -> bool:
    spec_port = int(person.check_output("info").split('"ssh_port": ')[1].split(",")[0])
    with paramiko.Transport((person.address, spec_port)) as transport:
        transport.connect()
        try:
            transport.auth_password("docker", password)
        except paramiko.AuthenticationException:
            return False
        return transport.is_authenticated()


def test_common_tools_are_installed(alive: Person) -> None:
    stdout = alive.check_output(
        "ssh", "sudo sh -c 'for tool in \"$@\"; do command -v $tool; done' sh " + " ".join(TOOLS)
    )
    assert [Path(line).name for line in stdout.splitlines()] == TOOLS


def test_every_network_card_gets_an_address(alive: Person) -> None:
    stdout = alive.check_output("ssh", "ip -4 -o addr")
    assert "inet 10.0.2.15/24" in stdout
    assert "inet 10.9.0.15/24" in stdout


def test_the_default_route_uses_the_first_card(alive: Person) -> None:
    """QEMU offers a restricted guest no router, so the test supplies the leases, in the relevant order."""
    lease = "sudo env interface=eth{} ip=10.{}.15 mask=24 router=10.{}.2 /etc/b2d/dhcp bound"
    script = f"{lease.format(0, '0.2', '0.2')}; {lease.format(1, '9.0', '9.0')}; ip route get 192.0.2.1"
    assert "192.0.2.1 via 10.0.2.2 dev eth0" in alive.check_output("ssh", script)


def test_docker_uses_the_recommended_features(alive: Person) -> None:
    stdout = alive.docker("info", "--format", "{{.CgroupVersion}} {{.Driver}} {{.SecurityOptions}}")
    assert stdout.startswith("2 overlay2 ")
    assert "name=seccomp,profile=builtin" in stdout


def test_the_root_file_system_is_not_stored_in_memory(alive: Person) -> None:
    lines = alive.check_output("ssh", "cat /proc/meminfo").splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    assert kib["Shmem"] + kib["Unevictable"] < 16 * 1024
    assert kib["MemTotal"] - kib["MemAvailable"] < 300 * 1024


def test_the_console_accepts_only_the_password_of_2014(terminal: Terminal) -> None:
    terminal.log_in("tcuser2", then="Login incorrect")
    terminal.log_in("tcuser", then="docker@boot2docker:~$ ")
    terminal.type("id -un; sudo -n id -un")
    assert terminal.read_until("root\r\n").split("\r\n")[-3:] == ["docker", "root", ""]


def test_ssh_refuses_the_password(alive: Person) -> None:
    assert not password_is_taken(alive, "tcuser")


def test_the_console_shows_the_boot_stages(alive: Person) -> None:
    wait_until(lambda: " ready" in alive.check_output("logs"), condition="ready", timeout_s=30, interval_s=1)
    stdout = alive.check_output("logs")
    names = [stage.name for stage in parse_stages(stdout)]
    assert names[:3] == ["released", "disk", "network"]  # from a template; test_iso_boot.py has a whole boot
    assert sorted(names[3:]) == ["docker", "ready", "ssh"]
    assert "boot2docker login:" in stdout


def test_the_clock_is_correct_soon_after_the_host_was_stopped(alive: Person) -> None:
    pid = int(alive.paths.qemu_pid.read_text())
    os.kill(pid, signal.SIGSTOP)
    time.sleep(SLEPT_S)
    os.kill(pid, signal.SIGCONT)
    assert_right_soon(alive)


def test_the_clock_is_correct_soon_after_the_host_slept(alive: Person) -> None:
    """A host's sleep stops all clocks of the guest but its RTC."""
    with Qmp(alive.paths.qmp_socket) as qmp:
        qmp.execute("stop")
        time.sleep(SLEPT_S)
        qmp.execute("cont")
    assert_right_soon(alive)


def test_the_power_button_shuts_down_cleanly_with_any_containers(alive: Person, tmp_path: Path) -> None:
    alive.docker("run", "-d", "--name", "deaf", "--restart", "always", "hello", "sh", "-c", DEAF)
    alive.docker("run", "-d", "--name", "held", "hello", "sleep", "10000")
    alive.docker("pause", "held")
    alive.check_output("ssh", f"sudo mkdir /opt/more && sudo mount --bind {STORE} /opt/more")
    alive.check_output("ssh", "(cd /opt/more && nohup sleep 10000 >/dev/null 2>&1 &)")
    alive.check_output("ssh", f"echo late | sudo tee {STORE}/late")
    alive.check_output("stop")
    assert disk_of(alive, tmp_path).is_clean()


def test_data_written_last_survives_and_the_password_is_accepted_on_request(alive: Person) -> None:
    alive.environment["B2D_SSH_PASSWORD"] = "yes"
    alive.check_output("up")
    assert alive.check_output("ssh", f"cat {STORE}/late; sudo dmesg | grep -c recovery || true") == "late\n0\n"
    assert password_is_taken(alive, "tcuser")
    assert not password_is_taken(alive, "tcuser2")
    alive.docker("rm", "-f", "deaf", "held")


def test_poweroff_works_with_a_full_disk(alive: Person, terminal: Terminal, tmp_path: Path) -> None:
    fill = 'fallocate -l $(($(stat -f -c "%f*%S" .) - 20971520)) full; dd if=/dev/zero bs=4k >>full'
    terminal.log_in("tcuser", then="$ ")
    terminal.type(f"cd /mnt/vda1 && sudo sh -c '{fill}'")
    terminal.read_until("No space left on device")
    terminal.read_until("/mnt/vda1$ ")
    terminal.type("sudo poweroff")
    wait_until(lambda: wait_until_off(alive), condition="poweroff", timeout_s=40)
    assert disk_of(alive, tmp_path).is_clean()


def test_a_full_disk_is_reported_and_docker_starts_when_there_is_space(alive: Person) -> None:
    completed = alive.b2d("up")
    assert "the data disk is full" in completed.stderr.decode()
    alive.check_output("ssh", "sudo rm /mnt/vda1/full")
    wait_until(lambda: alive.b2d("up").returncode == 0, condition="Docker", timeout_s=90, interval_s=1)
    assert alive.docker("run", "--rm", "hello", "echo", "room") == "room\n"


def test_the_same_machine_runs_after_a_reboot_from_inside(alive: Person) -> None:
    booted = alive.check_output("ssh", "cat /proc/sys/kernel/random/boot_id")
    alive.b2d("ssh", "sudo reboot")

    def again() -> bool:
        completed = alive.b2d("ssh", "cat /proc/sys/kernel/random/boot_id")
        return completed.returncode == 0 and completed.stdout.decode() != booted

    wait_until(again, condition="the reboot", timeout_s=90, interval_s=1)
    assert alive.b2d("status").stdout == b"running\n"
    alive.check_output("up")
    assert alive.docker("run", "--rm", "hello", "echo", "again") == "again\n"
    assert alive.check_output("ssh", "sudo dmesg | grep -c recovery || true") == "0\n"


def test_halt_powers_the_machine_off(alive: Person, tmp_path: Path) -> None:
    alive.b2d("ssh", "sudo halt")
    wait_until(lambda: wait_until_off(alive), condition="halt", timeout_s=40)
    assert disk_of(alive, tmp_path).is_clean()


def test_a_panic_is_on_the_console(image: Image, tmp_path: Path) -> None:
    lines = "echo 1 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger"
    machine = guest_without_docker.Guest(
        guest_without_docker.image(image, tmp_path, lines), tmp_path, tiny_guest.spec(), []
    )
    machine.report()
    assert "Kernel panic - not syncing: sysrq triggered crash" in machine.console()
    assert "Call Trace" in machine.console()
