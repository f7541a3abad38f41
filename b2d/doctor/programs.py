"""Checks of this host's programs: Python, QEMU, the tools that build images, and the docker client."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from b2d.docker.client import STRICT_API
from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.drivers.qemu.command_line import PROGRAM as QEMU_PROGRAM
from b2d.errors import B2dError
from b2d.guest import folder_paths
from b2d.host import processes
from b2d.host.package_managers import DOCKER, QEMU, VIRTIOFSD, Installer
from b2d.machine_names import command_for

PYTHON = (3, 11)
QEMU_TRIED = (7, 2)  # the oldest version that b2d is tested with
DOCKER_API = (1, 24)  # the oldest version that the daemon of b2d's image accepts
STRICT_CLIENT = (1, 52)  # of Docker 29
ASK_TIMEOUT_S = 5.0
VERSION = re.compile(rb"(\d{1,9})\.(\d{1,9})(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A program that b2d needs: its version option, the verdict when it is missing, and the consequence."""

    name: str
    need: str
    question: str
    verdict: Verdict
    without: str
    program: str = ""


def check_python(version: tuple[int, int]) -> Finding:
    """Check the version of the Python that runs b2d."""
    current = ".".join(map(str, version))
    if version < PYTHON:
        return Finding("python", Verdict.BAD, f"{current} is too old: b2d needs 3.11", "install Python 3.11")
    return ok("python", current)


def check_qemu(installer: Installer, without: Verdict) -> Finding:
    """Check QEMU and its version."""
    needed = Requirement("qemu", QEMU, "--version", without, "machines of QEMU cannot start", QEMU_PROGRAM)
    finding = check_program(installer, needed)
    if finding.verdict == Verdict.GOOD and _version(finding.message.encode()) < QEMU_TRIED:
        return warning("qemu", f"{finding.message}: older than b2d is tested with", "install a newer QEMU")
    return finding


def check_folder_sharing(
    installer: Installer,
    qemu: Finding,
    virtiofsd: Callable[[], tuple[tuple[int, int], str]],
    is_confined: Callable[[], bool],
) -> Finding:
    """Check how machines of QEMU mount this host's folders, and whether virtiofsd is confined to its folder."""
    if _version(qemu.message.encode()) < folder_paths.QEMU:
        return ok("folders", "by 9p, as virtiofs needs QEMU 8.2 or newer")
    version, path = virtiofsd()
    if version >= folder_paths.VIRTIOFSD and not is_confined():
        message = f"by virtiofs, {path}, which is not confined to its folder: this host does not allow namespaces"
        return warning("folders", message, "sudo sysctl user.max_user_namespaces=10000, or allow unshare --user")
    if version >= folder_paths.VIRTIOFSD:
        return ok("folders", f"by virtiofs, {path}")
    if path:
        return ok("folders", f"by 9p, as virtiofs needs virtiofsd 1.11 or newer, and {path} is older")
    message = "by 9p, which is slow with large files: virtiofsd is not installed"
    return Finding("folders", Verdict.DOUBTFUL, message, installer.line([VIRTIOFSD]), needs=(VIRTIOFSD,))


def check_confinement(installer: Installer, has_filter: Callable[[], bool]) -> Finding:
    """Check that Linux's filters confine a guest that breaks out of QEMU, or asks it for setuid files."""
    lacking = []
    if not has_filter():
        lacking.append("no filter of system calls: containers can create setuid files in shared folders")
    command = [installer.which(QEMU_PROGRAM) or QEMU_PROGRAM, "-sandbox", "on", "-version"]
    try:
        if processes.run(command, timeout_s=ASK_TIMEOUT_S).exit_code != 0:
            lacking.append("this QEMU was built without a sandbox (seccomp)")
    except B2dError as error:
        lacking.append(error.message)
    if not lacking:
        return ok("confinement", "QEMU's sandbox, and a filter against setuid files")
    return warning("confinement", "; ".join(lacking), "install the distribution's own QEMU" if has_filter() else "")


def check_program(installer: Installer, needed: Requirement) -> Finding:
    """Check that a program is installed and runs."""
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


def check_docker(installer: Installer, environment: Mapping[str, str], machine_api: str, machine: str) -> Finding:
    """Check the docker client, and its API version against that of a running machine.

    `machine_api` and `machine` are "" when none is running.
    """
    path = installer.which("docker")
    if path is None:
        message = "the docker client is not installed: only b2d can use the machine's Docker"
        return Finding("docker", Verdict.DOUBTFUL, message, installer.line([DOCKER]), needs=(DOCKER,))
    # without a daemon, the client prints its own version, not one negotiated with a daemon
    without_daemon = {**environment, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    for name in ("DOCKER_CONTEXT", "DOCKER_API_VERSION"):
        without_daemon.pop(name, None)
    command = [path, "version", "--format", "{{.Client.APIVersion}}"]
    try:
        output = processes.run(command, timeout_s=ASK_TIMEOUT_S, environment=without_daemon).stdout
    except B2dError as error:
        return warning("docker", error.message)
    return _check_api(path, _version(output), _version(machine_api.encode()), machine)


def _check_api(path: str, client: Sequence[int], engine: Sequence[int], machine: str) -> Finding:
    if not client:
        return warning("docker", f"{path} does not print its API version")
    message = f"{path}, API {_dotted(client)}"
    if tuple(client) < DOCKER_API:
        return Finding("docker", Verdict.BAD, f"{message}: too old for the machine", "install a newer docker client")
    if not engine:
        return ok("docker", message)
    engine_version = _dotted(engine)
    if tuple(client) >= STRICT_CLIENT and tuple(engine) < STRICT_API:
        too_new = f"{message}: too new for the machine, which has {engine_version}"
        fix = f"{command_for('upgrade', machine)}, or install a docker client older than 29"
        return warning("docker", too_new, fix)
    if tuple(client) < tuple(engine):
        return ok("docker", f"{message}; the machine has {engine_version}, and accepts the older one too")
    return ok("docker", f"{message}; the machine has {engine_version}")


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _version(output: bytes) -> tuple[int, ...]:
    match = VERSION.search(output)
    return (int(match[1]), int(match[2])) if match else ()
