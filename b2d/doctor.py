"""What this host must have for b2d to work, looked at piece by piece; each finding says what helps."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from b2d import proc
from b2d.errors import B2dError
from b2d.layout import Home
from b2d.packages import DOCKER, QEMU, QEMU_IMG, SQUASHFS, Installer
from b2d.ports import Reporter

PYTHON = (3, 11)
QEMU_PROGRAM = "qemu-system-x86_64"
QEMU_TRIED = (7, 2)  # the oldest that b2d is tried with
DOCKER_API = (1, 24)  # the oldest that the daemon of b2d's image answers
ASK_TIMEOUT_S = 20.0
SPACE_NEEDED = 1 << 30  # bytes: packages, an image, and a first disk
SPACE_WANTED = 5 << 30
NAME_OF_A_MACHINE = "boot2docker-vm"
VERSION = re.compile(rb"(\d+)\.(\d+)(?:\.\d+)?")


class Verdict(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"  # it works, but worse than it could
    BAD = "bad"  # it cannot work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what `fix` would do about it."""

    name: str
    verdict: Verdict
    message: str
    fix: str = ""  # what a person types
    needs: tuple[str, ...] = ()  # what is to be installed
    open_files: tuple[Path, ...] = ()  # what is to be closed to others


@dataclass(frozen=True, slots=True)
class Examination:
    """What doctor asks of the outside; `mirror`, `accelerator` (name and reason) and `virtualbox` (version and place)
    may raise B2dError."""

    home: Home
    mirror: Callable[[], str]
    accelerator: Callable[[], tuple[str, str]]
    virtualbox: Callable[[], str]
    hypervisor: str = "qemu"  # that a new machine would get
    machine_api: str = ""  # the Docker API's version of a machine that runs
    installer: Installer = field(default_factory=Installer)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    python: tuple[int, int] = sys.version_info[:2]

    def findings(self) -> Iterator[Finding]:
        """One after the other, since some take a moment."""
        yield self._python()
        yield self._qemu()
        yield self._program("qemu-img", QEMU_IMG, "--version", self._without("qemu"), "no disk can be made without it")
        yield self._virtualbox()
        yield self._program(
            "mksquashfs", SQUASHFS, "-version", Verdict.DOUBTFUL, "an image made without it needs more memory"
        )
        yield self._accelerator()
        yield self._home()
        yield self._space()
        yield self._docker()
        yield self._mirror()
        yield self._secrets()

    def _python(self) -> Finding:
        here = ".".join(map(str, self.python))
        if self.python < PYTHON:
            return Finding("python", Verdict.BAD, f"{here} is too old, 3.11 is needed", "install Python 3.11")
        return Finding("python", Verdict.GOOD, here)

    def _qemu(self) -> Finding:
        without = self._without("qemu")
        found = self._program("qemu", QEMU, "--version", without, "no machine of QEMU starts", QEMU_PROGRAM)
        version = _version(found.message.encode())
        if found.verdict == Verdict.GOOD and version < QEMU_TRIED:
            return Finding("qemu", Verdict.DOUBTFUL, f"{found.message}: older than what b2d is tried with")
        return found

    def _virtualbox(self) -> Finding:
        try:
            return Finding("virtualbox", Verdict.GOOD, self.virtualbox())
        except B2dError as error:
            if self.hypervisor == "virtualbox":
                return Finding("virtualbox", Verdict.BAD, error.message, error.hint)
            return Finding("virtualbox", Verdict.GOOD, f"{error.message}: machines are QEMU's", error.hint)

    def _without(self, hypervisor: str) -> Verdict:
        """How bad it is when one is missing."""
        return Verdict.BAD if hypervisor == self.hypervisor else Verdict.DOUBTFUL

    def _program(
        self, name: str, need: str, question: str, verdict: Verdict, without: str, program: str = ""
    ) -> Finding:
        path = self.installer.which(program or name)
        if path is None:
            message = f"{program or name} is not installed: {without}"
            return Finding(name, verdict, message, self.installer.line([need]), needs=(need,))
        try:
            result = proc.run([path, question], timeout_s=ASK_TIMEOUT_S)
        except B2dError as error:
            return Finding(name, verdict, error.message, self.installer.line([need]))
        first = (result.stdout or result.stderr).decode(errors="replace").splitlines()[:1]
        if not VERSION.search(result.stdout):
            return Finding(name, verdict, f"{path} does not work: {''.join(first)}")
        return Finding(name, Verdict.GOOD, first[0])

    def _accelerator(self) -> Finding:
        try:
            name, reason = self.accelerator()
        except B2dError as error:
            return Finding("acceleration", Verdict.DOUBTFUL, error.message, error.hint)
        if reason:
            return Finding("acceleration", Verdict.DOUBTFUL, f"{name}: {reason}")
        return Finding("acceleration", Verdict.GOOD, name)

    def _home(self) -> Finding:
        root = self.home.root
        folder = _existing(root)
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            return Finding("home", Verdict.BAD, f"{folder} cannot be written: {error.strerror}", "set B2D_HOME")
        socket = self.home.machine(NAME_OF_A_MACHINE).qmp_socket
        if not socket.is_relative_to(root):
            return Finding("home", Verdict.GOOD, f"{root} (long: sockets go to {socket.parent.parent})")
        return Finding("home", Verdict.GOOD, str(root))

    def _space(self) -> Finding:
        try:
            free = shutil.disk_usage(_existing(self.home.root)).free
        except OSError as error:
            return Finding("disk space", Verdict.BAD, f"{self.home.root}: {error.strerror}")
        message = f"{free / (1 << 30):.1f} GiB free"
        if free < SPACE_WANTED:
            verdict = Verdict.BAD if free < SPACE_NEEDED else Verdict.DOUBTFUL
            return Finding("disk space", verdict, message, f"make room at {self.home.root}, or set B2D_HOME")
        return Finding("disk space", Verdict.GOOD, message)

    def _docker(self) -> Finding:
        path = self.installer.which("docker")
        if path is None:
            message = "there is no docker client: nothing speaks to the machine but b2d"
            return Finding("docker", Verdict.DOUBTFUL, message, self.installer.line([DOCKER]), needs=(DOCKER,))
        # nobody listens there: a daemon's answer would be negotiated down to what it knows itself
        nowhere = {**self.environment, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
        nowhere.pop("DOCKER_CONTEXT", None)
        question = [path, "version", "--format", "{{.Client.APIVersion}}"]
        try:
            said = proc.run(question, timeout_s=ASK_TIMEOUT_S, environment=nowhere).stdout
        except B2dError as error:
            return Finding("docker", Verdict.DOUBTFUL, error.message)
        return _client(path, _version(said), _version(self.machine_api.encode()))

    def _mirror(self) -> Finding:
        try:
            mirror = self.mirror()
        except B2dError as error:
            return Finding("mirror", Verdict.DOUBTFUL, error.message, error.hint)
        parts = urlsplit(mirror)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return Finding("mirror", Verdict.BAD, f"{mirror!r} is no address", "b2d config set mirror=https://…")
        return Finding("mirror", Verdict.GOOD, mirror)

    def _secrets(self) -> Finding:
        if os.name == "nt":
            return Finding("secrets", Verdict.GOOD, "kept by the rights of your own folder")
        open_files = tuple(path for path in _secret_files(self.home) if _is_open(path))
        if not open_files:
            return Finding("secrets", Verdict.GOOD, "closed to others")
        names = ", ".join(str(path) for path in open_files)
        return Finding("secrets", Verdict.BAD, f"others may read {names}", "b2d doctor --fix", open_files=open_files)


def fix(findings: Iterable[Finding], installer: Installer, reporter: Reporter) -> None:
    """Install what is missing, in one go, and close what is open. Raises B2dError, with the line to type."""
    found = list(findings)
    for path in (path for finding in found for path in finding.open_files):
        try:
            path.chmod(0o700 if path.is_dir() else 0o600)
        except OSError as error:
            raise B2dError(f"{path} cannot be closed to others: {error.strerror}") from error
        reporter.note(f"closed to others: {path}")
    needs = [need for finding in found for need in finding.needs]
    if needs:
        with reporter.step(f"install {', '.join(needs)}: {installer.line(needs)}"):
            installer.install(needs)


def _client(path: str, client: Sequence[int], machine: Sequence[int]) -> Finding:
    if not client:
        return Finding("docker", Verdict.DOUBTFUL, f"{path} does not say which API it speaks")
    message = f"{path}, API {'.'.join(map(str, client))}"
    if tuple(client) < DOCKER_API:
        return Finding("docker", Verdict.BAD, f"{message}: too old for the machine", "install a newer docker client")
    if machine and tuple(client) < tuple(machine):
        newer = ".".join(map(str, machine))
        return Finding("docker", Verdict.GOOD, f"{message}; the machine has {newer}, and speaks the older with it")
    return Finding("docker", Verdict.GOOD, message)


def _version(said: bytes) -> tuple[int, ...]:
    found = VERSION.search(said)
    return (int(found[1]), int(found[2])) if found else ()


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest above it that there is."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path(path.anchor or "."))


def _secret_files(home: Home) -> Iterator[Path]:
    if not home.root.is_dir():
        return
    yield home.root
    for folder in home.machines.iterdir() if home.machines.is_dir() else ():
        if not folder.is_dir():
            continue  # the locks lie there too, and hold nothing
        paths = home.machine(folder.name)
        yield from (paths.folder, paths.ssh_key, paths.host_key, paths.seed, paths.certs / "key.pem")
        yield from (paths.authority / "ca-key.pem", paths.authority / "server-key.pem")


def _is_open(path: Path) -> bool:
    try:
        return path.stat().st_mode & 0o077 != 0
    except OSError:
        return False
