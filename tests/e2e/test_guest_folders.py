"""Host folders in a QEMU guest: at their own path, up to date, and unchanged after a save."""

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.guest import seed
from b2d.guest.folder_paths import Folder
from b2d.host.polling import wait_until
from b2d.models import Image
from b2d.paths import MachinePaths
from tests.e2e.conftest import Person
from tests.support import guest_without_docker, tiny_guest

pytestmark = pytest.mark.qemu

PROJECT = "my project, größer"
MOUNTED = "while [ -e /run/b2d/mounting ]; do sleep 0.1; done"
FOLLOW = (
    'exec 4<{0}; read -r one <&4; echo $one; until read -r two <&4; do /usr/bin/busybox sleep 0.2; done; echo "$two"'
)


def test_a_folder_that_cannot_be_mounted_is_a_warning_and_the_boot_continues(image: Image, tmp_path: Path) -> None:
    dockerless = guest_without_docker.image(
        image, tmp_path, f"{MOUNTED}; cat /run/b2d/seed/folders; grep -c vboxsf /proc/mounts"
    )
    folders = [Folder("/data/of mine", "/data/of mine", read_only=True), Folder("/more", "/more", read_only=False)]
    identity = seed.Seed(hostname="box", authorized_keys="", host_key=b"", tls=None, folders=folders)
    MachinePaths(tmp_path).seed.write_bytes(seed.image(identity))
    guest = guest_without_docker.Guest(dockerless, tmp_path, tiny_guest.spec(), [])
    assert "b2d-0 ro /data/of mine\nb2d-1 rw /more\n0\n" in guest.report()
    for path in ("/data/of mine", "/more"):
        assert f"b2d: warn the host's folder {path} cannot be mounted\n" in guest.console()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that is shared read-only, beside one that is not."""
    folder = tmp_path_factory.mktemp("outside") / "only read"
    folder.mkdir()
    (folder / "data").write_text("data\n")
    (folder.parent / "secret").mkdir()
    (folder.parent / "secret" / "word").write_text("swordfish\n")
    return folder


@pytest.fixture(scope="module")
def sharing(person: Person, outside: Path) -> Iterator[Person]:
    person.environment["B2D_SHARE"] = f"~/*,{outside}:ro,{outside}/../later"
    project = person.folder / PROJECT
    project.mkdir()
    (project / "source").write_text("of the host\n")
    completed = person.b2d("up")
    assert completed.returncode == 0, completed.stderr.decode()
    assert f"the host's folder {outside.parent}/later cannot be mounted" in completed.stderr.decode()
    person.create_hello_image()
    yield person
    person.b2d("delete", "--yes", "--vm", "second")


@pytest.fixture
def project(sharing: Person) -> Path:
    return sharing.folder / PROJECT


def as_root(script: str) -> str:
    """Return a shell line for the guest's root: the host user's home may be closed to the guest user docker."""
    return f"sudo sh -c {shlex.quote(script)}"


def in_project(person: Person, project: Path, script: str, *options: str) -> str:
    """Return the output of a shell in a container whose /src is the project."""
    return person.docker("run", "--rm", *options, "-v", f"{project}:/src", "-w", "/src", "hello", "sh", "-c", script)


def test_docker_run_finds_the_current_folder(sharing: Person) -> None:
    script = f'eval "$(b2d shellinit)" && cd "{PROJECT}" && docker run --rm -v "$PWD":/src hello cat /src/source'
    assert sharing.sh(script).stdout == (sharing.folder / PROJECT / "source").read_bytes()


def test_files_written_by_a_container_belong_to_the_user_of_this_host(sharing: Person, project: Path) -> None:
    in_project(
        sharing,
        project,
        "umask 022; echo made >made; /usr/bin/busybox ln -s made link; exec /usr/bin/busybox mkdir -p a/b",
    )
    assert (project / "made").read_text() == "made\n"
    assert (project / "made").stat().st_uid == os.getuid()
    assert (project / "made").stat().st_mode & 0o777 == 0o644
    assert (project / "link").readlink() == Path("made")
    assert (project / "a/b").is_dir()


def test_the_guest_sees_the_modes_and_user_ids_of_the_host(sharing: Person, project: Path) -> None:
    script = project / "run me"
    script.write_text("#!/usr/bin/busybox sh\necho it ran\n")
    script.chmod(0o750)
    assert (
        in_project(sharing, project, '"./run me"; exec /usr/bin/busybox stat -c "%a %u" "run me"')
        == f"it ran\n750 {os.getuid()}\n"
    )


def test_a_file_that_is_open_in_a_container_and_grows_on_the_host_is_read_as_it_grows(
    sharing: Person, project: Path
) -> None:
    (project / "log").write_text("first\n")
    sharing.docker(
        "run", "-d", "--name", "tail", "-v", f"{project}:/src", "hello", "sh", "-c", FOLLOW.format("/src/log")
    )
    wait_until(
        lambda: sharing.docker("logs", "tail") == "first\n", condition="the first line", timeout_s=30, interval_s=0.5
    )
    with (project / "log").open("a") as log:
        log.write("second\n")
    wait_until(
        lambda: sharing.docker("logs", "tail") == "first\nsecond\n", condition="the next", timeout_s=30, interval_s=0.5
    )
    sharing.docker("rm", "-f", "tail")


def test_lines_appended_on_the_host_and_in_a_container_are_all_preserved(sharing: Person, project: Path) -> None:
    both = project / "both"
    lines = "exec 4>>both; echo one >&4; until [ -e go ]; do /usr/bin/busybox sleep 0.2; done; echo three >&4"
    sharing.docker("run", "-d", "--name", "appends", "-v", f"{project}:/src", "-w", "/src", "hello", "sh", "-c", lines)
    wait_until(lambda: both.exists() and both.read_text() == "one\n", condition="one", timeout_s=30, interval_s=0.2)
    with both.open("a") as log:
        log.write("two\n")
    (project / "go").touch()
    assert sharing.docker("wait", "appends") == "0\n"
    assert both.read_text() == "one\ntwo\nthree\n"
    sharing.docker("rm", "appends")


def test_a_read_only_folder_is_read_and_not_written_even_by_root(sharing: Person, outside: Path) -> None:
    assert sharing.check_output("ssh", f"cat '{outside}/data'") == "data\n"
    again = f"sudo mount -o remount,rw '{outside}'; echo no | sudo tee '{outside}/data'"
    assert b"Read-only file system" in sharing.b2d("ssh", again).stderr
    assert (outside / "data").read_text() == "data\n"


def test_no_link_leads_outside_a_folder(sharing: Person, project: Path, outside: Path) -> None:
    """Links are resolved by their reader in the guest, also one that replaces a folder in use."""
    secret = outside.parent / "secret"
    in_project(sharing, project, f"exec /usr/bin/busybox ln -s {secret} out")
    assert sharing.b2d("ssh", as_root(f"cat '{project}/out/word'")).returncode == 1
    held = project / "held"
    held.mkdir()
    (held / "word").write_text("mine\n")
    go = f"cd '{held}' && cat word && until [ -e ../swapped ]; do sleep 0.1; done; cat word"
    with subprocess.Popen(
        ["b2d", "ssh", as_root(go)], cwd=sharing.folder, env=sharing.environment, stdout=subprocess.PIPE, text=True
    ) as guest:
        assert guest.stdout is not None
        assert guest.stdout.readline() == "mine\n"
        held.rename(project / "moved")
        held.symlink_to(secret)
        (project / "swapped").touch()
        read = guest.stdout.read()
    assert (read, guest.returncode) in [("", 1), ("mine\n", 0)]  # virtiofs follows a folder that was moved


def test_a_second_machine_has_the_same_folders(sharing: Person, project: Path) -> None:
    sharing.check_output("up", "--vm", "second")
    assert sharing.check_output("ssh", "--vm", "second", as_root(f"cat '{project}/source'")) == "of the host\n"
    sharing.check_output("ssh", "--vm", "second", as_root(f"echo second >'{project}/second'"))
    assert sharing.check_output("ssh", as_root(f"cat '{project}/second'")) == "second\n"
    sharing.check_output("delete", "--yes", "--vm", "second")


def test_a_resumed_machine_has_its_folders_before_up_ends(sharing: Person, project: Path) -> None:
    sharing.docker("create", "--name", "waits", "-v", f"{project}:/src", "hello", "cat", "/src/source")
    sharing.check_output("save")
    assert sharing.b2d("status").stdout == b"saved\n"
    (project / "source").write_text("changed meanwhile\n")
    sharing.check_output("up")
    assert sharing.docker("start", "-a", "waits") == "changed meanwhile\n"


def test_a_saved_machine_resumes_with_a_warning_when_a_folder_is_missing(
    sharing: Person, project: Path, outside: Path
) -> None:
    booted = sharing.check_output("ssh", "cat /proc/sys/kernel/random/boot_id")
    sharing.check_output("save")
    outside.rename(outside.parent / "elsewhere")
    completed = sharing.b2d("up")
    assert f"the folder {outside} of this host is not available in the machine" in completed.stderr.decode()
    assert sharing.check_output("ssh", "cat /proc/sys/kernel/random/boot_id") == booted
    assert sharing.check_output("ssh", as_root(f"ls '{outside}'; cat '{project}/source'")) == "changed meanwhile\n"
    sharing.check_output("save")
    (outside.parent / "elsewhere").rename(outside)
    sharing.check_output("up")
    assert sharing.check_output("ssh", f"cat '{outside}/data'") == "data\n"


def test_a_save_is_refused_while_a_folder_is_in_use_and_loses_nothing(sharing: Person, project: Path) -> None:
    sharing.docker("run", "-d", "--name", "web", "-v", f"{project}:/src", "hello", "sleep", "10000")
    completed = sharing.b2d("save")
    assert (completed.returncode, completed.stdout) == (4, b"")
    assert b"while programs in it use folders of this host: the container web\n" in completed.stderr
    assert b"docker stop web && b2d save" in completed.stderr
    assert sharing.docker("exec", "web", "/usr/bin/busybox", "cat", "/src/source") == "changed meanwhile\n"
    sharing.docker("rm", "-f", "web")
    sharing.check_output("ssh", as_root(f"cd '{project}' && (setsid sleep 10000 >/dev/null 2>&1 &)"))
    completed = sharing.b2d("save")
    assert b"use folders of this host: sleep (pid " in completed.stderr
    assert sharing.check_output("ssh", as_root(f"cat '{project}/source'; kill $(pidof sleep)")) == "changed meanwhile\n"
    sharing.check_output("save")
    sharing.check_output("up")


def test_folders_are_mounted_again_after_a_killed_save(sharing: Person, project: Path) -> None:
    with subprocess.Popen(["b2d", "save"], cwd=sharing.folder, env=sharing.environment) as save:
        wait_until(sharing.paths.taken.exists, condition="the save", timeout_s=30, interval_s=0.001)
        save.kill()
    time.sleep(1)
    sharing.check_output("up")
    assert sharing.check_output("ssh", as_root(f"cat '{project}/source'")) == "changed meanwhile\n"


def test_a_container_restarted_at_boot_finds_its_folder(sharing: Person, project: Path) -> None:
    line = "/usr/bin/busybox cat /src/source; exec /usr/bin/busybox sleep 10000"
    sharing.docker(
        "run", "-d", "--name", "ever", "--restart", "always", "-v", f"{project}:/src", "hello", "sh", "-c", line
    )
    (project / "source").write_text("of the next boot\n")
    sharing.check_output("restart")
    wait_until(
        lambda: "of the next boot\n" in sharing.docker("logs", "ever"), condition="ever", timeout_s=30, interval_s=1
    )
    assert sharing.check_output("ssh", "sudo dmesg | grep -c recovery || true") == "0\n"
