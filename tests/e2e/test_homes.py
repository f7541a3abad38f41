"""The whole life of a machine in unusual homes, and two machines at once, with the real command line."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2d.host import unix_sockets
from b2d.paths import Home
from tests.e2e.conftest import B2D, Person

pytestmark = pytest.mark.qemu

ODD = """it's a "home" of $HOME, with `grüße` 🐳"""
UNUSUAL = {"odd": ODD, "undecodable": os.fsdecode(b"gr\xfc\xdfe"), "long": "x" * 200}
HOMES = UNUSUAL | {"usual": "home"}


@contextmanager
def living_in(folder: Path, images: Path) -> Iterator[Person]:
    """Yield a user with that home and a stored image; the machines are deleted at the end."""
    home = Home(folder)
    shutil.copytree(images, home.images, copy_function=os.link)
    templates = images.parent.parent / "templates"  # of all homes of this run
    templates.mkdir(mode=0o700, exist_ok=True)
    home.templates.symlink_to(templates)
    path = f"{B2D.parent}{os.pathsep}{os.environ['PATH']}"
    known = {"HOME": str(folder.parent), "B2D_HOME": str(folder), "PATH": path, "LANG": "C.UTF-8", "B2D_RESTRICT": "1"}
    someone = Person(home, folder.parent, known | {"B2D_DRIVER": "qemu", "B2D_MEMORY": "640", "B2D_DISK": "1000"})
    try:
        yield someone
    finally:
        for machine in home.machines.glob("*/machine.json"):
            someone.b2d("delete", "--yes", "--vm", machine.parent.name)


@pytest.fixture(params=UNUSUAL)
def person(request: pytest.FixtureRequest, image_home: Home, tmp_path: Path) -> Iterator[Person]:
    """Yield one user for each home; umask 0 makes new files open unless b2d closes them."""
    before = os.umask(0)
    try:
        with living_in(tmp_path / HOMES[request.param], image_home.images) as someone:
            yield someone
    finally:
        os.umask(before)


def open_to_others(home: Home) -> list[str]:
    """Return the files that other users could read if the folders above were open."""
    files = [home.machines, *home.machines.rglob("*"), *home.templates.glob("*")]
    secret = [path for path in files if path.suffix != ".pub"]
    modes = {str(path): path.stat().st_mode for path in secret}
    harm = {path: 0o022 if stat.S_ISSOCK(mode) else 0o077 for path, mode in modes.items()}  # connecting is writing
    return [path for path, mode in modes.items() if mode & harm[path]]


def test_a_machine_works_in_an_unusual_home_and_its_files_are_private(person: Person) -> None:
    person.check_output("init")
    assert open_to_others(person.home) == []
    person.check_output("up")
    assert open_to_others(person.home) == []
    assert person.check_output("ssh", "hostname") == "boot2docker\n"
    assert unix_sockets.answers(person.paths.docker_socket)
    stdout = person.docker("version", "--format", "{{.Server.Os}}")
    assert stdout == "linux\n"
    evaluated = person.sh('eval "$(b2d shellinit)" && cat "$DOCKER_CERT_PATH/cert.pem"')
    assert evaluated.stdout.startswith(b"-----BEGIN CERTIFICATE-----")
    assert person.check_output("screenshot", "screen.png") == ""
    person.check_output("ssh", "echo kept | sudo tee /mnt/vda1/kept")
    person.check_output("save")
    assert person.check_output("list").split()[-1]
    assert open_to_others(person.home) == []
    assert b"kernel" not in person.b2d("up").stderr
    assert person.check_output("ssh", "cat /mnt/vda1/kept") == "kept\n"
    person.check_output("stop")
    assert open_to_others(person.home) == []
    person.check_output("delete", "--yes")
    assert [path for path in person.home.machines.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("person", ["usual"], indirect=True)
def test_two_machines_at_once_have_different_addresses(person: Person) -> None:
    starting = [
        subprocess.Popen([str(B2D), "up", "--vm", name], env=person.environment, cwd=person.folder)
        for name in ("one", "Two")
    ]
    assert [process.wait(300) for process in starting] == [0, 0]
    at = [person.check_output("ip", "--vm", name).strip() for name in ("one", "Two")]
    assert at[0] != at[1]
    assert [person.check_output("--vm", name, "ssh", "hostname").lower() for name in ("one", "Two")] == [
        "one\n",
        "two\n",
    ]
    hosts = [f"unix://{person.home.machine(name).docker_socket}" for name in ("one", "Two")]
    ask = "docker -H {} info --format '{{{{.Name}}}}'"
    assert [person.sh(ask.format(host)).stdout for host in hosts] == [b"one\n", b"two\n"]
    person.environment["B2D_VM"] = "Two"
    assert person.check_output("ip").strip() == at[1]
    assert person.check_output("ip", "--vm", "one").strip() == at[0]
    person.check_output("poweroff")
    assert person.b2d("status").stdout == b"stopped\n"
    assert person.b2d("status", "--vm", "one").stdout == b"running\n"
    assert [person.sh(ask.format(host)).stdout.strip() for host in hosts] == [b"one", b""]
    assert [line.split()[0] for line in person.check_output("list").splitlines()[1:]] == ["Two", "one"]
