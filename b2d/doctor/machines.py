"""The machines of the home, one by one: how each is, its ports, certificates, clock and image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

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
CLOCK_TOLERANCE_S = 2.0  # what comes is cut to whole seconds, and may be on its way for one
OLD_DAYS = 60  # Debian mends what its packages do wrong in weeks
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class MachineReport:
    """One machine as it is now; `spec` is None where `trouble` says why it cannot be told."""

    name: str
    spec: MachineSpec | None = None
    state: MachineState = MachineState.ABSENT
    ping: Ping | None = None
    behind_s: float | None = None  # its clock, against this host's
    trouble: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class MachineChecks:
    """Who can be asked about machines; each answers in bounded time, and may raise B2dError."""

    home: Home
    state: Callable[[MachineSpec], MachineState]
    ping: Callable[[MachineSpec, float], Ping | None]
    images: ImageLookup
    now: Callable[[], float]
    exposures: Callable[[MachineSpec, MachineState], Sequence[Exposure]] = lambda *_: ()
    refusals: Callable[[str], Sequence[Refusal] | None] = lambda _: None  # None: no agent has told

    def seen(self) -> list[MachineReport]:
        """All machines. Raises B2dError where nobody can tell which there are."""
        return [self._look(name) for name in MachineStore(self.home).names()]

    def findings(self, seen: MachineReport) -> Iterator[Finding]:
        """All about one machine."""
        spec = seen.spec
        if spec is None:
            yield warning("machine", seen.trouble, seen.hint, seen.name)
            return
        yield _state_finding(seen)
        if seen.state == MachineState.ABSENT:
            return
        if seen.state not in ON_STATES:
            yield _ports(spec)
            yield self._pointed(spec)
        if seen.behind_s is not None:
            yield _clock(spec.name, seen.behind_s)
        if spec.tls:
            yield self._certificates(spec, seen.state)
        yield self._image(spec, seen.state)
        if seen.state in STARTED_STATES:
            yield from self._agent(spec.name)
        yield from self._exposures(spec, seen.state)

    def _look(self, name: str) -> MachineReport:
        try:
            spec = MachineStore(self.home).read(name)
            if spec is None:  # deleted meanwhile
                return MachineReport(name, trouble="it is gone", hint="b2d list")
            state = self.state(spec)
            answer = self.ping(spec, PING_S) if state in STARTED_STATES else None
            return MachineReport(name, spec, state, answer, clock_sync.seconds_behind(answer, self.now()))
        except B2dError as error:
            return MachineReport(name, trouble=error.message, hint=error.hint or command_for("info", name))

    def _pointed(self, spec: MachineSpec) -> Finding:
        """Shells must not be pointed at a machine that is off."""
        path = self.home.machine(spec.name).env
        if not path.exists():
            return ok("pointers", "no shell is sent to it", spec.name)
        message = f"{path} is of a run that is over"
        left = (spec.name,)
        return Finding("pointers", Verdict.DOUBTFUL, message, "b2d doctor --fix", machine=spec.name, left_env=left)

    def _certificates(self, spec: MachineSpec, state: MachineState) -> Finding:
        now = datetime.fromtimestamp(self.now(), UTC)
        remark = tls_certificates.expiry_warning(self.home.machine(spec.name), [spec.address], now)
        if not remark:
            return ok("certificates", "they hold", spec.name)
        if state not in ON_STATES:
            return ok("certificates", f"{remark}, and will be made anew when it starts", spec.name)
        return warning("certificates", remark, command_for("restart", spec.name), spec.name)

    def _image(self, spec: MachineSpec, state: MachineState) -> Finding:
        name = spec.name
        try:
            image, newer = self.images.get(spec.image), pending_image(spec, self.images)
        except B2dError as error:
            return warning("image", error.message, error.hint, name)
        if newer is not None:
            told = f"{image.version}; {newer.version} is kept, and is taken up at the next start"
            return (
                warning("image", told, command_for("restart", name), name)
                if state in ON_STATES
                else ok("image", told, name)
            )
        days = self._age_days(self.home.image(image.sha256).facts)
        if image.lacks:
            told = f"{image.version} may lack security updates: {', '.join(image.lacks)} on {image.date}"
            return warning("image", told, command_for("upgrade", name), name)
        if spec.source == DEBIAN and days > OLD_DAYS:
            told = f"{image.version} is {days} days old, and Debian has mended things since"
            return warning("image", told, command_for("upgrade", name), name)
        told = f", from all suites as of {image.date}" if image.suites else ""
        return ok("image", f"{image.version}, {days} days old{told}", name)

    def _agent(self, name: str) -> Iterator[Finding]:
        """The ports and the socket of this host that are the agent's, where it has told of them."""
        refused = self.refusals(name)
        if refused is None:
            return
        if not refused:
            yield ok("agent", "it serves all that it should", name)
        for one in refused:
            yield warning("agent", one.sentence(name), command_for("restart", name), name)

    def _exposures(self, spec: MachineSpec, state: MachineState) -> Iterator[Finding]:
        try:
            for one in self.exposures(spec, state):
                how = Verdict.GOOD if one.weight == Severity.ASKED else Verdict.DOUBTFUL
                yield Finding("exposure", how, one.message, one.remedy, machine=spec.name)
        except B2dError as error:
            yield warning("exposure", error.message, error.hint, spec.name)

    def _age_days(self, path: Path) -> int:
        try:
            return max(0, int((self.now() - path.stat().st_mtime) / DAY_S))
        except OSError:
            return 0


def _state_finding(seen: MachineReport) -> Finding:
    name, state = seen.name, seen.state
    if state == MachineState.ABSENT:
        return warning("machine", "its disk is gone", command_for("delete", name), name)
    if state == MachineState.CRASHED:
        return warning("machine", "it ended without b2d", command_for("up", name), name)
    if state == MachineState.RUNNING and seen.ping is None:
        message = f"it runs, but Docker does not answer within {PING_S:.0f} s"
        return warning("machine", message, f"{command_for('logs', name)}; {command_for('restart', name)}", name)
    return ok("machine", f"it is {state}", name)


def _ports(spec: MachineSpec) -> Finding:
    ports = (spec.ssh_port, spec.docker_port)
    taken = [port for port in ports if not port_allocation.is_free(spec.address, port)]
    if not taken:
        return ok("ports", f"{', '.join(map(str, ports))} of {spec.address} are free", spec.name)
    held = ", ".join(f"{port} ({port_allocation.port_holder(spec.address, port)})" for port in taken)
    message = f"on {spec.address} others have {held}; up takes the next free port"
    return warning("ports", message, command_for("up", spec.name), spec.name)


def _clock(name: str, behind_s: float) -> Finding:
    if abs(behind_s) <= CLOCK_TOLERANCE_S:
        return ok("clock", "it is right", name)
    fix = f"{command_for('save', name)} && {command_for('up', name)}"
    return warning("clock", f"it is {clock_sync.format_seconds(behind_s)}", fix, name)
