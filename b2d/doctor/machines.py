"""The machines of the home, one by one: how each is, its ports, certificates, clock and image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from b2d.doctor.finding import Finding, Verdict, doubtful, good
from b2d.errors import B2dError
from b2d.guest import tls_certificates
from b2d.guest.readiness import Ping
from b2d.host_agent.report import Refusal
from b2d.image.base import KeptImages
from b2d.image.source import DEBIAN
from b2d.machine import clock_sync
from b2d.machine.boot_preparation import waiting_image
from b2d.machine.exposure import Exposure, Weight
from b2d.machine_names import typed
from b2d.machine_store.store import MachineStore
from b2d.models import COMING_UP, ON, MachineSpec, MachineState
from b2d.network import port_allocation
from b2d.paths import Home

PING_S = 3.0
CLOCK_TOLERANCE_S = 2.0  # what comes is cut to whole seconds, and may be on its way for one
OLD_DAYS = 60  # Debian mends what its packages do wrong in weeks
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One machine as it is now; `spec` is None where `trouble` says why it cannot be told."""

    name: str
    spec: MachineSpec | None = None
    state: MachineState = MachineState.ABSENT
    ping: Ping | None = None
    behind_s: float | None = None  # its clock, against this host's
    trouble: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Ward:
    """Who can be asked about machines; each answers in bounded time, and may raise B2dError."""

    home: Home
    state: Callable[[MachineSpec], MachineState]
    ping: Callable[[MachineSpec, float], Ping | None]
    images: KeptImages
    now: Callable[[], float]
    exposures: Callable[[MachineSpec, MachineState], Sequence[Exposure]] = lambda *_: ()
    refusals: Callable[[str], Sequence[Refusal] | None] = lambda _: None  # None: no agent has told

    def seen(self) -> list[Seen]:
        """All machines. Raises B2dError where nobody can tell which there are."""
        return [self._look(name) for name in MachineStore(self.home).names()]

    def findings(self, seen: Seen) -> Iterator[Finding]:
        """All about one machine."""
        spec = seen.spec
        if spec is None:
            yield doubtful("machine", seen.trouble, seen.hint, seen.name)
            return
        yield _how(seen)
        if seen.state == MachineState.ABSENT:
            return
        if seen.state not in ON:
            yield _ports(spec)
            yield self._pointed(spec)
        if seen.behind_s is not None:
            yield _clock(spec.name, seen.behind_s)
        if spec.tls:
            yield self._certificates(spec, seen.state)
        yield self._image(spec, seen.state)
        if seen.state in COMING_UP:
            yield from self._agent(spec.name)
        yield from self._exposures(spec, seen.state)

    def _look(self, name: str) -> Seen:
        try:
            spec = MachineStore(self.home).read(name)
            if spec is None:  # deleted meanwhile
                return Seen(name, trouble="it is gone", hint="b2d list")
            state = self.state(spec)
            answer = self.ping(spec, PING_S) if state in COMING_UP else None
            return Seen(name, spec, state, answer, clock_sync.behind_s(answer, self.now()))
        except B2dError as error:
            return Seen(name, trouble=error.message, hint=error.hint or typed("info", name))

    def _pointed(self, spec: MachineSpec) -> Finding:
        """Shells must not be pointed at a machine that is off."""
        path = self.home.machine(spec.name).env
        if not path.exists():
            return good("pointers", "no shell is sent to it", spec.name)
        message = f"{path} is of a run that is over"
        left = (spec.name,)
        return Finding("pointers", Verdict.DOUBTFUL, message, "b2d doctor --fix", machine=spec.name, left_env=left)

    def _certificates(self, spec: MachineSpec, state: MachineState) -> Finding:
        now = datetime.fromtimestamp(self.now(), UTC)
        remark = tls_certificates.remark(self.home.machine(spec.name), [spec.address], now)
        if not remark:
            return good("certificates", "they hold", spec.name)
        if state not in ON:
            return good("certificates", f"{remark}, and will be made anew when it starts", spec.name)
        return doubtful("certificates", remark, typed("restart", spec.name), spec.name)

    def _image(self, spec: MachineSpec, state: MachineState) -> Finding:
        name = spec.name
        try:
            image, newer = self.images.get(spec.image), waiting_image(spec, self.images)
        except B2dError as error:
            return doubtful("image", error.message, error.hint, name)
        if newer is not None:
            told = f"{image.version}; {newer.version} is kept, and is taken up at the next start"
            return doubtful("image", told, typed("restart", name), name) if state in ON else good("image", told, name)
        days = self._age_days(self.home.image(image.sha256).facts)
        if image.lacks:
            told = f"{image.version} may lack security updates: {', '.join(image.lacks)} on {image.date}"
            return doubtful("image", told, typed("upgrade", name), name)
        if spec.source == DEBIAN and days > OLD_DAYS:
            told = f"{image.version} is {days} days old, and Debian has mended things since"
            return doubtful("image", told, typed("upgrade", name), name)
        told = f", from all suites as of {image.date}" if image.suites else ""
        return good("image", f"{image.version}, {days} days old{told}", name)

    def _agent(self, name: str) -> Iterator[Finding]:
        """The ports and the socket of this host that are the agent's, where it has told of them."""
        refused = self.refusals(name)
        if refused is None:
            return
        if not refused:
            yield good("agent", "it serves all that it should", name)
        for one in refused:
            yield doubtful("agent", one.sentence(name), typed("restart", name), name)

    def _exposures(self, spec: MachineSpec, state: MachineState) -> Iterator[Finding]:
        try:
            for one in self.exposures(spec, state):
                how = Verdict.GOOD if one.weight == Weight.ASKED else Verdict.DOUBTFUL
                yield Finding("exposure", how, one.message, one.remedy, machine=spec.name)
        except B2dError as error:
            yield doubtful("exposure", error.message, error.hint, spec.name)

    def _age_days(self, path: Path) -> int:
        try:
            return max(0, int((self.now() - path.stat().st_mtime) / DAY_S))
        except OSError:
            return 0


def _how(seen: Seen) -> Finding:
    name, state = seen.name, seen.state
    if state == MachineState.ABSENT:
        return doubtful("machine", "its disk is gone", typed("delete", name), name)
    if state == MachineState.CRASHED:
        return doubtful("machine", "it ended without b2d", typed("up", name), name)
    if state == MachineState.RUNNING and seen.ping is None:
        message = f"it runs, but Docker does not answer within {PING_S:.0f} s"
        return doubtful("machine", message, f"{typed('logs', name)}; {typed('restart', name)}", name)
    return good("machine", f"it is {state}", name)


def _ports(spec: MachineSpec) -> Finding:
    ports = (spec.ssh_port, spec.docker_port)
    taken = [port for port in ports if not port_allocation.free(spec.address, port)]
    if not taken:
        return good("ports", f"{', '.join(map(str, ports))} of {spec.address} are free", spec.name)
    held = ", ".join(f"{port} ({port_allocation.holder(spec.address, port)})" for port in taken)
    message = f"on {spec.address} others have {held}; up takes the next free port"
    return doubtful("ports", message, typed("up", spec.name), spec.name)


def _clock(name: str, behind_s: float) -> Finding:
    if abs(behind_s) <= CLOCK_TOLERANCE_S:
        return good("clock", "it is right", name)
    fix = f"{typed('save', name)} && {typed('up', name)}"
    return doubtful("clock", f"it is {clock_sync.in_words(behind_s)}", fix, name)
