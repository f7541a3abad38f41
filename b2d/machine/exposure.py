"""Find who else can reach a machine: a sentence for each access that its hypervisor, host or settings leave open.

init, up and doctor report these; docs/security.md has them as a table.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from b2d.drivers import hypervisors
from b2d.drivers.base import DialsGuest, Driver
from b2d.guest.folder_paths import READ_ONLY
from b2d.machine_names import command_for
from b2d.models import Access, MachineSpec
from b2d.reporting.base import Reporter

NEW_PASSWORD, NO_PASSWORD = "b2d config set password", "b2d config set ssh_password=no"


class Severity(StrEnum):
    """How much an exposure matters."""

    ASKED = "asked"  # a setting that is in effect, and opens nothing to others
    KNOWN = "known"  # it cannot be closed on this host, and needs no action
    SERIOUS = "serious"  # others have access, or the owner has none


@dataclass(frozen=True, slots=True)
class Exposure:
    """An access that is open; `remedy` is the command that closes it, "" if there is none."""

    message: str
    weight: Severity
    remedy: str = ""

    @property
    def line(self) -> str:
        """The sentence with the remedy at its end."""
        return f"{self.message}; try: {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class Environment:
    """The surroundings of a machine: its driver, its settings, and this host."""

    driver: Driver
    access: Access  # of the machine now, or from its next boot on
    booted: bool = False  # whether the machine has booted with it
    foreign: bool = False  # whether its image is another project's: then its SSH server always accepts tcuser
    platform: str = sys.platform
    tells_users: Callable[[], bool] = lambda: True  # whether this host reports the owner of a connection


def find_exposures(spec: MachineSpec, around: Environment) -> list[Exposure]:
    """Return the exposures of a machine, by its hypervisor or by its settings; the most serious comes first."""
    exposures = [*_docker(spec, around), *_ssh(spec, around), *_strangers(spec, around), *_guest(spec, around)]
    return sorted(exposures, key=lambda exposure: list(Severity).index(exposure.weight), reverse=True)


def report(exposures: list[Exposure], reporter: Reporter) -> None:
    """Report each exposure: serious ones as warnings."""
    for exposure in exposures:
        (reporter.warn if exposure.weight == Severity.SERIOUS else reporter.note)(exposure.line)


def _docker(spec: MachineSpec, around: Environment) -> Iterator[Exposure]:
    if spec.tls:
        return
    if not spec.guarded:
        message = f"{spec.name} was resumed as an older b2d saved it: every user of this host can use its Docker"
        yield Exposure(message, Severity.SERIOUS, command_for("restart", spec.name))
    elif around.platform != "linux":
        message = f"access to Docker without TLS at {spec.address}:{spec.docker_port} of {spec.name}"
        yield Exposure(f"{message} is decided with psutil, which is not tested on {around.platform}", Severity.KNOWN)


def _ssh(spec: MachineSpec, around: Environment) -> Iterator[Exposure]:
    """Yield the exposures of the SSH port: the agent guards it, or the hypervisor forwards every connection."""
    place, name, access = f"{spec.address}:{spec.ssh_port}", spec.name, around.access
    if around.foreign:
        access = Access(ssh_password=True)
    if spec.guarded and isinstance(around.driver, DialsGuest):
        if access.ssh_password and access.password:
            message = f"the SSH server of {name} also accepts docker's password, but only from your own programs"
            yield Exposure(message, Severity.ASKED, _after(NO_PASSWORD, spec, around))
        elif access.ssh_password:
            message = (
                f"the SSH server of {name} also accepts the well-known password tcuser, but only from your own programs"
            )
            yield Exposure(message, Severity.KNOWN, _after(NEW_PASSWORD, spec, around))
        return
    forwarded = f"{hypervisors.title(spec.driver)} itself forwards {place} to the SSH server of {name}"
    if access.ssh_password and access.password:
        message = f"{forwarded}, which also accepts docker's password: every user of this host can try passwords"
        yield Exposure(message, Severity.SERIOUS, _after(NO_PASSWORD, spec, around))
    elif access.ssh_password:
        message = f"{forwarded}, which accepts the well-known password tcuser: every user of this host can log in"
        yield Exposure(message, Severity.SERIOUS, _after(NEW_PASSWORD, spec, around))
    else:
        message = f"{forwarded}: every user of this host can connect, but needs the machine's key to log in"
        restart = isinstance(
            around.driver, DialsGuest
        )  # a machine of an older b2d: from its next boot on the agent guards the port
        yield Exposure(message, Severity.KNOWN, command_for("restart", name) if restart else "")


def made_by_root(spec: MachineSpec) -> str:
    """Return a warning for a machine that root created: a process that escapes from the guest is root on this host."""
    consequence = "its hypervisor runs as root"
    if spec.folders:
        consequence += ", and containers write to its shared folders as root of this host"
    command = shlex.quote(command_for("up", spec.name))
    return f"{spec.name} was created by root: {consequence}; to create one as a user: su - USER -c {command}"


def _strangers(spec: MachineSpec, around: Environment) -> Iterator[Exposure]:
    """Yield the ports that the agent closes because this host does not report the owner of a connection."""
    places = [f"SSH at {spec.address}:{spec.ssh_port}"] if isinstance(around.driver, DialsGuest) else []
    places += [] if spec.tls else [f"Docker at {spec.address}:{spec.docker_port}"]
    if spec.guarded and places and not around.tells_users():
        message = (
            f"this host does not report who connects: {' and '.join(places)} of {spec.name} refuse all connections"
        )
        yield Exposure(f"{message}, while b2d ssh and docker.sock work", Severity.SERIOUS)


def _guest(spec: MachineSpec, around: Environment) -> Iterator[Exposure]:
    """Yield what root in the guest can do because nothing on this host prevents it."""
    filters = isinstance(around.driver, DialsGuest) and around.platform == "linux"
    if not filters and not all(folder.endswith(READ_ONLY) for folder in spec.folders):
        message = f"this host does not block setuid files that containers create in the shared folders of {spec.name}"
        yield Exposure(message, Severity.KNOWN)
    if not around.access.host_loopback and not spec.restrict and isinstance(around.driver, DialsGuest):
        message = f"host_loopback=no is enforced by the firewall in {spec.name}, which root in the guest can change"
        yield Exposure(f"{message} and which raw frames of containers with --network host bypass", Severity.KNOWN)


def _after(setting: str, spec: MachineSpec, around: Environment) -> str:
    """Return the command that changes the setting and, for a machine that has booted, applies it.

    "" for a guest that reads no settings.
    """
    if around.foreign:
        return ""
    return f"{setting} && {command_for('restart', spec.name)}" if around.booted else setting
