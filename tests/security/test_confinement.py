"""A real machine: QEMU is confined, and a container gets only the visible folders of the home."""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.drivers.qemu import sandbox
from b2d.drivers.qemu.process import QemuProcess
from b2d.host import seccomp
from tests.e2e.conftest import Person, person
from tests.support.paths import ROOT

__all__ = ["person"]  # the fixture
pytestmark = pytest.mark.qemu

SYSCTL = ROOT / "iso/rootfs/etc/sysctl.conf"
BUSYBOX = "/usr/bin/busybox"


@pytest.fixture(scope="module")
def running(person: Person) -> Iterator[Person]:
    """Start a default machine of a user with a project and secrets."""
    for name in ("src", ".ssh", "snap"):
        (person.folder / name).mkdir()
    (person.folder / ".ssh" / "id_ed25519").write_text("secret\n")
    (person.folder / ".bashrc").write_text("# mine\n")
    (person.folder / "src" / "file").write_text("of the host\n")
    person.check_output("up")
    person.create_hello_image()
    yield person


def in_src(person: Person, script: str) -> tuple[int, str]:
    """Run a line of shell in a container in the user's project; return its exit code and output."""
    source = f"{person.folder}/src:/src"
    completed = person.run_docker("run", "--rm", "-v", source, "-w", "/src", "hello", "sh", "-c", script)
    return completed.returncode, (completed.stdout + completed.stderr).decode()


def status_of(person: Person) -> dict[str, str]:
    """Return the fields of /proc/PID/status of the machine's process."""
    process = QemuProcess(person.paths).find()
    assert process is not None
    text = Path(f"/proc/{process.pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\s+(.*)$", text, re.MULTILINE))


def test_qemu_runs_with_both_seccomp_filters_and_no_new_privileges(running: Person) -> None:
    status = status_of(running)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert int(status["Seccomp_filters"]) >= 2
    process = QemuProcess(running.paths).find()
    assert process is not None
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    assert command[command.index(b"-sandbox") + 1].decode() == sandbox.ARGUMENTS[1]
    if os.geteuid() == 0:
        lacking = sum(1 << number for number in seccomp.UNNEEDED_CAPABILITIES)
        assert int(status["CapEff"], 16) & lacking == 0


@pytest.mark.parametrize(
    "script",
    ["chmod 4755 file", "chmod 2755 file", "chmod 6755 file", "mkdir -m 2775 sub", "mknod null c 1 3"],
)
def test_no_container_creates_a_setuid_file_or_a_device_on_this_host(running: Person, script: str) -> None:
    code, output = in_src(running, f"exec {BUSYBOX} {script}")
    assert code != 0, output
    for path in (running.folder / "src").rglob("*"):
        mode = path.lstat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID)
        assert not stat.S_ISCHR(mode)


def test_other_modes_files_and_links_work_as_usual(running: Person) -> None:
    script = (
        f"umask 022; echo made >made; b={BUSYBOX}; $b chmod 1751 made && $b mkdir -m 775 d && $b ln -s made l && cat l"
    )
    assert in_src(running, script) == (0, "made\n")
    source = running.folder / "src"
    assert stat.S_IMODE((source / "made").stat().st_mode) == 0o1751
    assert stat.S_IMODE((source / "d").stat().st_mode) == 0o775


def test_a_container_that_mounts_the_home_sees_only_the_visible_folders(running: Person) -> None:
    home = str(running.folder)
    listed = running.docker("run", "--rm", "-v", f"{home}:/h", "hello", BUSYBOX, "ls", "-A", "/h")
    assert listed.split() == ["src"]
    assert running.docker("run", "--rm", "-v", f"{home}:/h", "hello", "cat", "/h/src/file") == "of the host\n"
    running.docker("run", "--rm", "-v", f"{home}:/h", "hello", "sh", "-c", "echo evil >/h/.bashrc")
    assert (running.folder / ".bashrc").read_text() == "# mine\n"
    root = f"sudo sh -c 'cat {home}/.ssh/id_ed25519; ls {running.home.root}'"
    assert running.b2d("ssh", root).stdout == b""


def test_a_confined_machine_is_saved_and_resumed(running: Person) -> None:
    booted = running.check_output("ssh", "cat /proc/sys/kernel/random/boot_id")
    running.check_output("save")
    running.check_output("up")
    assert running.check_output("ssh", "cat /proc/sys/kernel/random/boot_id") == booted
    assert int(status_of(running)["Seccomp_filters"]) >= 2
    assert in_src(running, "cat file") == (0, "of the host\n")


def test_a_container_dumps_no_core_unless_requested(running: Person) -> None:
    code, output = in_src(running, f"ulimit -c; ulimit -H -c; {BUSYBOX} sh -c 'kill -SEGV $$'; {BUSYBOX} ls")
    assert output.split()[:2] == ["0", "unlimited"], code
    assert "core" not in output.split()
    limit = ("run", "--rm", "--ulimit", "core=-1", "hello", "sh", "-c", "ulimit -c")
    assert running.docker(*limit) == "unlimited\n"


def test_the_sysctl_values_of_the_guest_are_those_of_its_file(running: Person) -> None:
    wanted = dict(re.findall(r"^([\w.]+) = (.*)$", SYSCTL.read_text(), re.MULTILINE))
    assert len(wanted) > 20
    paths = " ".join(f"/proc/sys/{name.replace('.', '/')}" for name in wanted)
    stdout = running.check_output("ssh", f"sudo grep -H . {paths}")
    values = {
        path.removeprefix("/proc/sys/").replace("/", "."): " ".join(value.split()) for path, _, value in lines(stdout)
    }
    assert values == wanted


def lines(output: str) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in output.splitlines()]


def test_only_programs_of_docker_disable_aslr_and_only_on_an_emulated_cpu(running: Person) -> None:
    names = "dropbear acpid dockerd containerd"
    look = "sudo cat /proc/$(pidof $p | cut -d' ' -f1)/personality"
    script = f"for p in {names}; do echo $p $({look}); done"
    modes = dict(line.split() for line in running.check_output("ssh", script).splitlines())
    assert (modes["dropbear"], modes["acpid"]) == ("00000000", "00000000")
    emulated = b"QEMU Virtual CPU" in running.b2d("ssh", "cat /proc/cpuinfo").stdout
    assert modes["dockerd"] == modes["containerd"] == ("00040000" if emulated else "00000000")
    inside = running.docker("run", "--rm", "--privileged", "hello", "cat", "/proc/self/personality")
    assert inside == "00000000\n"


def test_ports_published_on_the_loopback_of_the_guest_are_forwarded(running: Person) -> None:
    serves = ("sh", "-c", f"echo hey >/index.html; exec {BUSYBOX} httpd -f -p 80 -h /")
    running.docker("run", "-d", "--name", "web", "-p", "127.0.0.1:23480:80", "hello", *serves)
    script = "for i in $(seq 100); do curl -s http://127.0.0.1:23480/ && exit 0; sleep 0.1; done; exit 1"
    assert running.sh(script).stdout == b"hey\n"
    rows = json.loads(running.check_output("ports", "--json"))
    assert [(row["address"], row["state"]) for row in rows] == [("127.0.0.1", "open")]
    running.docker("rm", "-f", "web")
