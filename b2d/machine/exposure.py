"""Find who else can reach a machine: what its hypervisor, this host or its settings leave open, a sentence each.

What init, up and doctor say of it comes from here alone; docs/security.md has the same as a table.
"""

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
    """How much it matters."""

    ASKED = "asked"  # a setting that is in force, and opens nothing to others
    KNOWN = "known"  # it cannot be closed here, and nothing need be done
    SERIOUS = "serious"  # others get in, or the owner does not


@dataclass(frozen=True, slots=True)
class Exposure:
    """One thing that is open; `remedy` is what to type, "" where nothing helps."""

    message: str
    weight: Severity
    remedy: str = ""

    @property
    def line(self) -> str:
        """The sentence, with what helps at its end."""
        return f"{self.message}; try: {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class Environment:
    """The surroundings of a machine: its driver, its settings, and this host."""

    driver: Driver
    access: Access  # as the machine has it, or will have it at its next boot
    booted: bool = False  # whether it has been booted with that
    platform: str = sys.platform
    tells_users: Callable[[], bool] = lambda: True  # whether this host says whose a connection is


def find_exposures(spec: MachineSpec, around: Environment) -> list[Exposure]:
    """Return what cannot be closed of that machine, or is open as its settings say; the most serious comes first."""
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
        message = f"{spec.name} goes on as an older b2d saved it: every user of this host can use its Docker"
        yield Exposure(message, Severity.SERIOUS, command_for("restart", spec.name))
    elif around.platform != "linux":
        message = f"who may use Docker without TLS at {spec.address}:{spec.docker_port} of {spec.name}"
        yield Exposure(f"{message} is told by psutil, which was not tried on {around.platform}", Severity.KNOWN)


def _ssh(spec: MachineSpec, around: Environment) -> Iterator[Exposure]:
    """Yield what the SSH port leaves open: the agent guards it, or the hypervisor forwards everybody."""
    place, name, access = f"{spec.address}:{spec.ssh_port}", spec.name, around.access
    if spec.guarded and isinstance(around.driver, DialsGuest):
        if access.ssh_password and access.password:
            message = f"over SSH {name} takes docker's password too, from programs of yours alone"
            yield Exposure(message, Severity.ASKED, _after(NO_PASSWORD, spec, around))
        elif access.ssh_password:
            message = f"over SSH {name} takes the password tcuser too, from programs of yours alone: everybody knows it"
            yield Exposure(message, Severity.KNOWN, _after(NEW_PASSWORD, spec, around))
        return
    leads = f"{hypervisors.title(spec.driver)} itself leads {place} to the SSH server of {name}"
    if access.ssh_password and access.password:
        message = f"{leads}, which takes docker's password too: every user of this host can try passwords"
        yield Exposure(message, Severity.SERIOUS, _after(NO_PASSWORD, spec, around))
    elif access.ssh_password:
        message = f"{leads}, which takes the password tcuser: everybody knows it, and every user of this host gets in"
        yield Exposure(message, Severity.SERIOUS, _after(NEW_PASSWORD, spec, around))
    else:
        message = f"{leads}: every user of this host can keep it busy, but needs the machine's key to get in"
        restart = isinstance(around.driver, DialsGuest)  # of an older b2d: at its next boot the agent leads there
        yield Exposure(message, Severity.KNOWN, command_for("restart", name) if restart else "")


def _strangers(spec: MachineSpec, around: Environment) -> Iterator[Exposure]:
    """Yield what the agent refuses to all where this host does not tell whose a connection is."""
    places = [f"SSH at {spec.address}:{spec.ssh_port}"] if isinstance(around.driver, DialsGuest) else []
    places += [] if spec.tls else [f"Docker at {spec.address}:{spec.docker_port}"]
    if spec.guarded and places and not around.tells_users():
        message = f"this host does not tell whose connections are: {' and '.join(places)} of {spec.name} refuse all"
        yield Exposure(f"{message}, while b2d ssh and docker.sock work", Severity.SERIOUS)


def _guest(spec: MachineSpec, around: Environment) -> Iterator[Exposure]:
    """Yield what root in the guest can do, since nothing on this host forbids it."""
    filters = isinstance(around.driver, DialsGuest) and around.platform == "linux"
    if not filters and not all(folder.endswith(READ_ONLY) for folder in spec.folders):
        message = f"nothing on this host refuses setuid files that containers make in the folders of {spec.name}"
        yield Exposure(message, Severity.KNOWN)
    if not around.access.host_loopback and not spec.restrict and isinstance(around.driver, DialsGuest):
        message = f"host_loopback=no is kept by the firewall in {spec.name}: its root can undo it"
        yield Exposure(f"{message}, and raw frames of containers with --network host pass by", Severity.KNOWN)


def _after(setting: str, spec: MachineSpec, around: Environment) -> str:
    """Return the command that changes the setting and, for a machine that has booted, applies it."""
    return f"{setting} && {command_for('restart', spec.name)}" if around.booted else setting
