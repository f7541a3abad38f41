"""Checks of each machine: its state, ports, certificates, clock, image, agent and exposure."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.errors import B2dError
from b2d.guest import tls_certificates
from b2d.guest.readiness import Ping
from b2d.host_agent.report import Refusal
from b2d.image.base import ImageLookup
from b2d.image.source import DEBIAN
from b2d.machine import clock_sync
from b2d.machine.boot_preparation import pending_image
from b2d.machine.exposure import Exposure, Severity
from b2d.machine_names import command_for
from b2d.machine_store.store import MachineStore
from b2d.models import ON_STATES, STARTED_STATES, MachineSpec, MachineState
from b2d.network import port_allocation
from b2d.paths import Home

PING_S = 3.0
CLOCK_TOLERANCE_S = 2.0  # the guest's time comes in whole seconds, and may take one to arrive
OLD_DAYS = 60  # Debian fixes its packages within weeks
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class MachineReport:
    """The current condition of a machine; `spec` is None when `trouble` says why it is unknown."""

    name: str
    spec: MachineSpec | None = None
    state: MachineState = MachineState.ABSENT
    ping: Ping | None = None
    behind_s: float | None = None  # its clock, compared with this host's
    trouble: str = ""
    hint: str = ""


class MachineProbe(Protocol):
    """Questions about a machine; each is answered in bounded time, and may raise B2dError."""

    def state(self, spec: MachineSpec) -> MachineState:
        """Return the machine's state."""

    def ping(self, spec: MachineSpec, timeout_s: float) -> Ping | None:
        """Ping the machine's Docker; return its answer, or None."""

    def exposures(self, spec: MachineSpec, state: MachineState) -> Sequence[Exposure]:
        """Return the exposures of the machine as it runs, or of its next boot."""

    def refusals(self, name: str) -> Sequence[Refusal] | None:
        """Return what the machine's agent could not open; None when no agent has reported."""


@dataclass(frozen=True, slots=True)
class MachineChecks:
    """The checks of machines and their inputs."""

    home: Home
    probe: MachineProbe
    images: ImageLookup
    now: Callable[[], float] = time.time

    def examine(self) -> list[MachineReport]:
        """Report on all machines. Raises B2dError when they cannot be listed."""
        return [self._look(name) for name in MachineStore(self.home).names()]

    def findings(self, report: MachineReport) -> Iterator[Finding]:
        """Yield the findings about a machine."""
        spec = report.spec
        if spec is None:
            yield warning("machine", report.trouble, report.hint, report.name)
            return
        yield _state_finding(report)
        if report.state == MachineState.ABSENT:
            return
        if report.state not in ON_STATES:
            yield _ports(spec)
            yield self._env_file(spec)
        if report.behind_s is not None:
            yield _clock(spec.name, report.behind_s)
        if spec.tls:
            yield self._certificates(spec, report.state)
        yield self._image(spec, report.state)
        if report.state in STARTED_STATES:
            yield from self._agent(spec.name)
        yield from self._exposures(spec, report.state)

    def _look(self, name: str) -> MachineReport:
        try:
            spec = MachineStore(self.home).read(name)
            if spec is None:  # deleted meanwhile
                return MachineReport(name, trouble="it no longer exists", hint="b2d list")
            state = self.probe.state(spec)
            answer = self.probe.ping(spec, PING_S) if state in STARTED_STATES else None
            return MachineReport(name, spec, state, answer, clock_sync.seconds_behind(answer, self.now()))
        except B2dError as error:
            return MachineReport(name, trouble=error.message, hint=error.hint or command_for("info", name))

    def _env_file(self, spec: MachineSpec) -> Finding:
        """Check that a machine that is off has no env file, which directs shells to it."""
        path = self.home.machine(spec.name).env
        if not path.exists():
            return ok("pointers", "no shell uses stale variables", spec.name)
        message = f"{path} is from an earlier run"
        left = (spec.name,)
        return Finding("pointers", Verdict.DOUBTFUL, message, "b2d doctor --fix", machine=spec.name, left_env=left)

    def _certificates(self, spec: MachineSpec, state: MachineState) -> Finding:
        now = datetime.fromtimestamp(self.now(), UTC)
        remark = tls_certificates.expiry_warning(self.home.machine(spec.name), [spec.address], now)
        if not remark:
            return ok("certificates", "valid", spec.name)
        if state not in ON_STATES:
            return ok("certificates", f"{remark}; new ones are created at its next start", spec.name)
        return warning("certificates", remark, command_for("restart", spec.name), spec.name)

    def _image(self, spec: MachineSpec, state: MachineState) -> Finding:
        name = spec.name
        try:
            image, newer = self.images.get(spec.image), pending_image(spec, self.images)
        except B2dError as error:
            return warning("image", error.message, error.hint, name)
        if newer is not None:
            message = f"{image.version}; the next start uses {newer.version}"
            return (
                warning("image", message, command_for("restart", name), name)
                if state in ON_STATES
                else ok("image", message, name)
            )
        days = self._age_days(self.home.image(image.sha256).facts)
        if image.lacks:
            message = f"{image.version} may lack security updates: {', '.join(image.lacks)} on {image.date}"
            return warning("image", message, command_for("upgrade", name), name)
        if spec.source == DEBIAN and days > OLD_DAYS:
            message = f"{image.version} is {days} days old and may lack security updates"
            return warning("image", message, command_for("upgrade", name), name)
        message = f", from all suites as of {image.date}" if image.suites else ""
        return ok("image", f"{image.version}, {days} days old{message}", name)

    def _agent(self, name: str) -> Iterator[Finding]:
        """Check the ports and the socket that the agent serves on this host, if it has reported."""
        refusals = self.probe.refusals(name)
        if refusals is None:
            return
        if not refusals:
            yield ok("agent", "serves all ports and the socket", name)
        for refusal in refusals:
            yield warning("agent", refusal.sentence(name), command_for("restart", name), name)

    def _exposures(self, spec: MachineSpec, state: MachineState) -> Iterator[Finding]:
        try:
            for exposure in self.probe.exposures(spec, state):
                verdict = Verdict.GOOD if exposure.weight == Severity.ASKED else Verdict.DOUBTFUL
                yield Finding("exposure", verdict, exposure.message, exposure.remedy, machine=spec.name)
        except B2dError as error:
            yield warning("exposure", error.message, error.hint, spec.name)

    def _age_days(self, path: Path) -> int:
        try:
            return max(0, int((self.now() - path.stat().st_mtime) / DAY_S))
        except OSError:
            return 0


def _state_finding(report: MachineReport) -> Finding:
    name, state = report.name, report.state
    if state == MachineState.ABSENT:
        return warning("machine", "its disk is missing", command_for("delete", name), name)
    if state == MachineState.CRASHED:
        return warning("machine", "it ended unexpectedly", command_for("up", name), name)
    if state == MachineState.RUNNING and report.ping is None:
        message = f"it is running, but Docker does not answer within {PING_S:.0f} s"
        return warning("machine", message, f"{command_for('logs', name)}; {command_for('restart', name)}", name)
    return ok("machine", f"it is {state}", name)


def _ports(spec: MachineSpec) -> Finding:
    ports = (spec.ssh_port, spec.docker_port)
    taken = [port for port in ports if not port_allocation.is_free(spec.address, port)]
    if not taken:
        return ok("ports", f"{', '.join(map(str, ports))} of {spec.address} are free", spec.name)
    held = ", ".join(f"{port} ({port_allocation.port_holder(spec.address, port)})" for port in taken)
    message = f"other programs use {held} of {spec.address}; up takes the next free port"
    return warning("ports", message, command_for("up", spec.name), spec.name)


def _clock(name: str, behind_s: float) -> Finding:
    if abs(behind_s) <= CLOCK_TOLERANCE_S:
        return ok("clock", "correct", name)
    fix = f"{command_for('save', name)} && {command_for('up', name)}"
    return warning("clock", f"it is {clock_sync.format_seconds(behind_s)}", fix, name)
