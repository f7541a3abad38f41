"""The programs of this host: Python, QEMU, what images are packed with, and docker's client."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.errors import B2dError
from b2d.guest import folder_paths
from b2d.host import processes
from b2d.host.package_managers import DOCKER, QEMU, VIRTIOFSD, Installer

PYTHON = (3, 11)
QEMU_PROGRAM = "qemu-system-x86_64"
QEMU_TRIED = (7, 2)  # the oldest that b2d is tried with
DOCKER_API = (1, 24)  # the oldest that the daemon of b2d's image answers
STRICT_CLIENT, STRICT_API = (1, 52), (1, 44)  # since Docker 29 the client speaks nothing older than 25 does
ASK_TIMEOUT_S = 5.0
VERSION = re.compile(rb"(\d{1,9})\.(\d{1,9})(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A program, the question that it answers with its version, and how bad it is without it."""

    name: str
    need: str
    question: str
    verdict: Verdict
    without: str
    program: str = ""


def python(version: tuple[int, int]) -> Finding:
    """The Python that runs this."""
    here = ".".join(map(str, version))
    if version < PYTHON:
        return Finding("python", Verdict.BAD, f"{here} is too old, 3.11 is needed", "install Python 3.11")
    return ok("python", here)


def qemu(installer: Installer, without: Verdict) -> Finding:
    """QEMU and its version."""
    needed = Requirement("qemu", QEMU, "--version", without, "no machine of QEMU starts", QEMU_PROGRAM)
    found = program(installer, needed)
    if found.verdict == Verdict.GOOD and _version(found.message.encode()) < QEMU_TRIED:
        return warning("qemu", f"{found.message}: older than what b2d is tried with", "install a newer QEMU")
    return found


def folders_by(
    installer: Installer,
    qemu: Finding,
    virtiofsd: Callable[[], tuple[tuple[int, int], str]],
    is_kept_apart: Callable[[], bool],
) -> Finding:
    """How machines of QEMU have this host's folders; and whether a virtiofsd sees no more than its own."""
    if _version(qemu.message.encode()) < folder_paths.QEMU:
        return ok("folders", "by 9p, as virtiofs wants QEMU 8.2 or newer")
    version, path = virtiofsd()
    if version >= folder_paths.VIRTIOFSD and not is_kept_apart():
        message = f"by virtiofs, {path}, which could see more than its folder: this host gives it no namespaces"
        return warning("folders", message, "sudo sysctl user.max_user_namespaces=10000, or allow unshare --user")
    if version >= folder_paths.VIRTIOFSD:
        return ok("folders", f"by virtiofs, {path}")
    if path:
        return ok("folders", f"by 9p, as virtiofs wants virtiofsd 1.11 or newer, and {path} is not")
    message = "by 9p, which is slow with large files: virtiofsd is not installed"
    return Finding("folders", Verdict.DOUBTFUL, message, installer.line([VIRTIOFSD]), needs=(VIRTIOFSD,))


def confinement(installer: Installer, has_filter: Callable[[], bool]) -> Finding:
    """Whether a guest that breaks out of QEMU, or asks it for setuid files, is held by Linux's filters."""
    lacking = []
    if not has_filter():
        lacking.append("no filter of system calls: containers can make setuid files in shared folders")
    command = [installer.which(QEMU_PROGRAM) or QEMU_PROGRAM, "-sandbox", "on", "-version"]
    try:
        if processes.run(command, timeout_s=ASK_TIMEOUT_S).exit_code != 0:
            lacking.append("this QEMU was built without a sandbox (seccomp)")
    except B2dError as error:
        lacking.append(error.message)
    if not lacking:
        return ok("confinement", "QEMU's sandbox, and a filter that lets no setuid files be made")
    return warning("confinement", "; ".join(lacking), "install the distribution's own QEMU" if has_filter() else "")


def program(installer: Installer, needed: Requirement) -> Finding:
    """Whether it is there, and really runs."""
    name, verdict = needed.name, needed.verdict
    path = installer.which(needed.program or name)
    line = installer.line([needed.need])
    if path is None:
        message = f"{needed.program or name} is not installed: {needed.without}"
        return Finding(name, verdict, message, line, needs=(needed.need,))
    try:
        result = processes.run([path, needed.question], timeout_s=ASK_TIMEOUT_S)
    except B2dError as error:
        return Finding(name, verdict, error.message, line)
    first = (result.stdout or result.stderr).decode(errors="replace").splitlines()[:1]
    if not VERSION.search(result.stdout):
        return Finding(name, verdict, f"{path} does not work: {''.join(first)}", line)
    return ok(name, first[0])


def docker(installer: Installer, environment: Mapping[str, str], machine_api: str) -> Finding:
    """docker's client, and whether it speaks with a machine that runs; "" where none does."""
    path = installer.which("docker")
    if path is None:
        message = "there is no docker client: nothing speaks to the machine but b2d"
        return Finding("docker", Verdict.DOUBTFUL, message, installer.line([DOCKER]), needs=(DOCKER,))
    # nobody listens there: a daemon's answer would be negotiated down to what it knows itself
    nowhere = {**environment, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    for name in ("DOCKER_CONTEXT", "DOCKER_API_VERSION"):
        nowhere.pop(name, None)
    question = [path, "version", "--format", "{{.Client.APIVersion}}"]
    try:
        said = processes.run(question, timeout_s=ASK_TIMEOUT_S, environment=nowhere).stdout
    except B2dError as error:
        return warning("docker", error.message)
    return _client(path, _version(said), _version(machine_api.encode()))


def _client(path: str, client: Sequence[int], machine: Sequence[int]) -> Finding:
    if not client:
        return warning("docker", f"{path} does not say which API it speaks")
    message = f"{path}, API {_dotted(client)}"
    if tuple(client) < DOCKER_API:
        return Finding("docker", Verdict.BAD, f"{message}: too old for the machine", "install a newer docker client")
    if not machine:
        return ok("docker", message)
    has = _dotted(machine)
    if tuple(client) >= STRICT_CLIENT and tuple(machine) < STRICT_API:
        told = f"{message}: too new for the machine, which has {has}"
        return warning("docker", told, "b2d upgrade, or install a docker client of before 29")
    if tuple(client) < tuple(machine):
        return ok("docker", f"{message}; the machine has {has}, and speaks the older with it")
    return ok("docker", f"{message}; the machine has {has}")


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _version(said: bytes) -> tuple[int, ...]:
    found = VERSION.search(said)
    return (int(found[1]), int(found[2])) if found else ()
