"""A user at a terminal: the command b2d in a home of its own, and the real docker client."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from b2d.machine_store.store import MachineStore
from b2d.paths import Home, MachinePaths
from tests.support.network_namespace import own_network

NAME = "boot2docker-vm"
LIMIT_S = 300
B2D = Path(sysconfig.get_path("scripts")) / "b2d"


@dataclass
class Person:
    """A user with a home, who runs commands."""

    home: Home
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    within: Sequence[str] = ()  # a prefix that runs commands in the user's namespaces

    @property
    def paths(self) -> MachinePaths:
        return self.home.machine(self.environment.get("B2D_VM", NAME))

    @property
    def address(self) -> str:
        """Return the machine's address: 127.0.59.103, unless another home of this host uses it."""
        spec = MachineStore(self.home).read(NAME)
        assert spec is not None
        return spec.address

    def b2d(self, *arguments: str, stdin: bytes = b"", limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[bytes]:
        """Run b2d and return the completed process, whatever its exit code."""
        return self._run([str(B2D), *arguments], stdin, limit_s)

    def check_output(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run b2d, which must succeed, and return its stdout."""
        completed = self.b2d(*arguments, stdin=stdin)
        assert completed.returncode == 0, completed.stderr.decode()
        return completed.stdout.decode()

    def sh(self, script: str, shell: str = "sh", limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[bytes]:
        """Run a script in a shell."""
        return self._run([shell, "-c", script], b"", limit_s)

    def docker(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run the docker client in a shell that evaluated shellinit; it must succeed. Return its stdout."""
        completed = self.run_docker(*arguments, stdin=stdin)
        assert completed.returncode == 0, completed.stderr.decode()
        return completed.stdout.decode()

    def run_docker(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run the docker client and return the completed process, whatever its exit code."""
        script = 'eval "$(b2d shellinit)" && exec docker "$@"'
        return self._run(["sh", "-c", script, "sh", *arguments], stdin, LIMIT_S)

    def create_hello_image(self) -> None:
        """Create the image `hello`: busybox, taken from the machine itself."""
        tree = self.b2d("ssh", "--", "tar -cC / usr/bin/busybox").stdout
        self.docker("import", "--change", 'ENTRYPOINT ["/usr/bin/busybox"]', "-", "hello", stdin=tree)

    def _run(self, command: Sequence[str], stdin: bytes, limit_s: float) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.within, *command],
            input=stdin,
            capture_output=True,
            timeout=limit_s,
            cwd=self.folder,
            env=self.environment,
            check=False,
        )


def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder of this run, which all processes of xdist share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="module")
def person(image_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Yield a new user whose home stores an image already; their machine is deleted after the module.

    The module has a network of its own, with loopback only.

    The folder has the same path each time, as shared folders of a saved machine keep theirs.
    """
    folder = tmp_path_factory.getbasetemp() / "person"
    templates = session_folder(tmp_path_factory) / "templates"  # of all processes of this run
    templates.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700)
    home = Home(folder / ".b2d")
    shutil.copytree(image_home.images, home.images)
    home.templates.symlink_to(templates)
    path = f"{B2D.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"HOME": str(folder), "PATH": path, "B2D_RESTRICT": "1", "B2D_MEMORY": "1024", "LANG": "C.UTF-8"}
    environment["B2D_TEMPLATES"] = "8000"  # of the hardware of all modules
    someone = Person(home, folder, environment)
    with own_network():
        yield someone
        someone.b2d("delete", "--yes")
    shutil.rmtree(folder)


@contextmanager
def alone(person: Person, name: str) -> Iterator[Person]:
    """Yield the user on a host with loopback only, where a machine need not be restricted."""
    command = ["unshare", "--net", "sh", "-c", "busybox ip link set lo up && echo up && exec sleep 3600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        environment = person.environment | {"B2D_RESTRICT": "0", "B2D_VM": name}
        someone = replace(person, environment=environment, within=("nsenter", "-n", "-t", str(holder.pid)))
        try:
            yield someone
        finally:
            someone.b2d("delete", "--yes")
            holder.kill()


def boot(person: Person) -> None:
    """Create and boot the user's machine, and the image `hello`."""
    person.check_output("up")
    person.create_hello_image()


@pytest.fixture(scope="module")
def up(person: Person, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Return the user with a running machine and the image `hello`: the first one boots, later ones are its copies.

    A copy resumes from the saved state, in a tenth of the time.
    """
    saved_folder = tmp_path_factory.getbasetemp() / "saved-person"
    if not saved_folder.exists():
        boot(person)
        person.check_output("save")
        _copy(person.folder, saved_folder)
    else:
        shutil.rmtree(person.folder)
        _copy(saved_folder, person.folder)
    person.check_output("up")
    return person


def _copy(folder: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", str(folder), str(to)], check=True)
