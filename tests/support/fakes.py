"""Fakes of the driver, images, reporter and guest; FakeDriver passes the contract suite of the real drivers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from b2d.errors import (
    B2dError,
    HypervisorError,
    ImageError,
    InvalidStateError,
    MachineNotFoundError,
    SavedStateError,
)
from b2d.models import (
    HARDWARE,
    CommandResult,
    Endpoint,
    Extent,
    Forward,
    Image,
    MachineSpec,
    MachineState,
    ProcessIdentity,
    Snapshot,
)

ALIVE = frozenset(
    {MachineState.STARTING, MachineState.RUNNING, MachineState.PAUSED, MachineState.STOPPING},
)
BEYOND_ANY_PID = 2**22  # Linux gives no pid as high as this: is_alive() of a fake's process is False


def a_spec(name: str = "boot2docker-vm", **changes: object) -> MachineSpec:
    """Return the spec of a small machine; `changes` are fields of MachineSpec."""
    spec = MachineSpec(
        name=name,
        driver="qemu",
        source="debian",
        image="0" * 64,
        memory_mib=512,
        cpus=1,
        disk_mib=256,
        address="127.0.59.103",
        ssh_port=2022,
        docker_port=2376,
    )
    return spec._replace(**changes)  # type: ignore[arg-type]


@dataclass
class FakeMachine:
    """A machine of the fake hypervisor, and its behaviour, which tests set."""

    state: MachineState
    payload: bytes
    endpoint: Endpoint | None = None
    process: ProcessIdentity | None = None
    disk_mib: int = 0
    booted: MachineSpec | None = None  # the spec at its boot
    boots: int = 0
    resumes: int = 0
    console: str = ""
    room: int = 1 << 20
    snapshots: dict[str, tuple[bytes, int]] = field(default_factory=dict)  # content of the disk, and its size


@dataclass
class FakeHypervisor:
    """The machines by name, which outlive a driver: two drivers of one hypervisor see the same machine."""

    machines: dict[str, FakeMachine] = field(default_factory=dict)
    unusable: HypervisorError | None = None  # raised by check() and start()
    script: Sequence[str] = ()  # console output of a booting guest: each call of console() shows one more line
    missed_presses: float = 0  # the guest continues after that many calls of stop()
    save_fails: B2dError | None = None
    state_fits: bool = True  # False: the saved state cannot be resumed
    trims: bool = True
    snapshot_fails: B2dError | None = None
    dies_after: int | None = None  # the process dies after this many calls of console()
    hang: bool = False  # True: the control socket no longer answers
    limitations: list[str] = field(default_factory=list)
    forwards: set[Forward] = field(default_factory=set)
    pids: int = BEYOND_ANY_PID


class FakeDriver:
    """A Driver (b2d/drivers/base.py) over a FakeHypervisor; `calls` lists the methods that were called."""

    def __init__(self, spec: MachineSpec, hypervisor: FakeHypervisor | None = None) -> None:
        self.spec = spec
        self.hypervisor = hypervisor or FakeHypervisor()
        self.calls: list[str] = []

    def check(self) -> None:
        self.calls.append("check")
        if self.hypervisor.unusable is not None:
            raise self.hypervisor.unusable

    def create(self, payload: bytes) -> None:
        self.calls.append("create")
        self._refuse_when_unusable()
        if self.spec.name in self.hypervisor.machines:
            raise InvalidStateError(f"{self.spec.name} has a disk already")
        self.hypervisor.machines[self.spec.name] = FakeMachine(
            MachineState.STOPPED, payload, disk_mib=self.spec.disk_mib
        )

    def delete(self) -> None:
        self.calls.append("delete")
        self.hypervisor.machines.pop(self.spec.name, None)

    def state(self) -> MachineState:
        machine = self.machine
        if machine is None:
            return MachineState.ABSENT
        if self.hypervisor.hang and machine.state in ALIVE:
            return MachineState.RUNNING
        return machine.state

    def start(self) -> None:
        self.calls.append("start")
        machine = self._existing()
        if machine.state in (MachineState.RUNNING, MachineState.STOPPING):
            raise InvalidStateError(f"{self.spec.name} is {machine.state} already")
        self._refuse_when_unusable()
        if machine.state == MachineState.SAVED and not self.hypervisor.state_fits:
            machine.state = MachineState.STOPPED
            if self.spec.hardware < HARDWARE:
                raise SavedStateError("it does not fit")
        if machine.state == MachineState.SAVED:
            machine.resumes += 1
        elif machine.state != MachineState.PAUSED:
            machine.boots += 1
            machine.console = ""
            machine.booted = self.spec
        if machine.state != MachineState.PAUSED:
            self.hypervisor.pids += 1
            machine.process = ProcessIdentity(self.hypervisor.pids, str(self.hypervisor.pids), "fake")
        machine.endpoint = Endpoint(self.spec.address, self.spec.ssh_port, self.spec.forwarded_docker_port)
        machine.state = MachineState.RUNNING

    def stop(self) -> None:
        self.calls.append("stop")
        machine = self._running()
        self._refuse_when_hung()
        if self.hypervisor.missed_presses:
            self.hypervisor.missed_presses -= 1
        else:
            _end(machine, MachineState.STOPPED)

    def kill(self) -> None:
        self.calls.append("kill")
        machine = self.machine
        if machine is not None and (machine.state in ALIVE or machine.state == MachineState.CRASHED):
            _end(machine, MachineState.STOPPED)

    def save(self) -> None:
        self.calls.append("save")
        machine = self._running()
        self._refuse_when_hung()
        if self.hypervisor.save_fails is not None:
            raise self.hypervisor.save_fails
        _end(machine, MachineState.SAVED)

    def endpoint(self) -> Endpoint:
        endpoint = self._running().endpoint
        if endpoint is None:
            raise AssertionError("a running machine without an endpoint")
        return endpoint

    def process(self) -> ProcessIdentity | None:
        return self.machine.process if self.machine is not None else None

    def effective_spec(self) -> MachineSpec | None:
        if self.machine is None or self.machine.booted is None or self.machine.state not in ALIVE:
            return None
        return self.spec._replace(memory_mib=self.machine.booted.memory_mib, cpus=self.machine.booted.cpus)

    def disk_mib(self) -> int:
        return self.machine.disk_mib if self.machine is not None else 0

    def grow_disk(self, size_mib: int) -> None:
        self.calls.append("grow_disk")
        machine = self._existing()
        if machine.state not in (MachineState.STOPPED, MachineState.CRASHED):
            raise InvalidStateError(f"{self.spec.name} is {machine.state}")
        machine.disk_mib = max(machine.disk_mib, size_mib)

    @property
    def trims(self) -> bool:
        return self.hypervisor.trims

    def disk_room(self) -> int:
        return self._existing().room

    def compact_disk(self) -> None:
        self.calls.append("compact_disk")
        machine = self._existing()
        if machine.state not in (MachineState.STOPPED, MachineState.CRASHED):
            raise InvalidStateError(f"{self.spec.name} is {machine.state}")
        machine.room //= 2

    def snapshots(self) -> list[Snapshot]:
        snapshots = self._existing().snapshots
        return [Snapshot(name, number, len(data)) for number, (name, (data, _)) in enumerate(snapshots.items())]

    def take_snapshot(self, name: str) -> None:
        self.calls.append("take_snapshot")
        machine = self._existing()
        self._fail_snapshots()
        machine.snapshots[name] = (machine.payload, machine.disk_mib)

    def restore_snapshot(self, name: str) -> None:
        self.calls.append("restore_snapshot")
        machine = self._existing()
        if machine.state in ALIVE:
            raise InvalidStateError(f"{self.spec.name} is {machine.state}")
        self._fail_snapshots()
        machine.payload, machine.disk_mib = machine.snapshots[name]
        machine.state = MachineState.STOPPED

    def delete_snapshot(self, name: str) -> None:
        self.calls.append("delete_snapshot")
        self._fail_snapshots()
        del self._existing().snapshots[name]

    def limitations(self) -> list[str]:
        return list(self.hypervisor.limitations)

    def move_clock(self, seconds: int) -> None:
        """Raise B2dError, as for a guest without a control port."""
        raise B2dError("the guest has no control port")

    def forwards(self) -> list[Forward]:
        self._running()
        return sorted(self.hypervisor.forwards)

    def forward_obstacle(self, forward: Forward) -> str:
        return "no UDP with restrict" if self.spec.restrict and forward.protocol == "udp" else ""

    def add_forward(self, forward: Forward) -> None:
        self._running()
        self.hypervisor.forwards.add(forward)

    def remove_forward(self, forward: Forward) -> None:
        self._running()
        self.hypervisor.forwards.remove(forward)

    def screenshot(self) -> bytes:
        self._running()
        self._refuse_when_hung()
        return b"\x89PNG\r\n\x1a\n of a fake"

    def console(self) -> str:
        machine = self.machine
        if machine is None:
            return ""
        shown = machine.console.count("\n")
        if machine.state in ALIVE and shown < len(self.hypervisor.script):
            machine.console += self.hypervisor.script[shown] + "\n"
        if machine.state in ALIVE and shown == self.hypervisor.dies_after:
            self.crash()
        return machine.console

    # events from outside b2d

    @property
    def machine(self) -> FakeMachine | None:
        return self.hypervisor.machines.get(self.spec.name)

    def crash(self) -> None:
        """End the hypervisor's process, as kill -9 does."""
        _end(self._existing(), MachineState.CRASHED)

    def pause(self) -> None:
        """Pause the machine, as a user of the hypervisor's own tools does."""
        self._running().state = MachineState.PAUSED

    def _existing(self) -> FakeMachine:
        if self.machine is None:
            raise MachineNotFoundError(f"there is no machine {self.spec.name}")
        return self.machine

    def _running(self) -> FakeMachine:
        machine = self._existing()
        if machine.state not in ALIVE:
            raise InvalidStateError(f"{self.spec.name} is not running, it is {machine.state}")
        return machine

    def _refuse_when_unusable(self) -> None:
        if self.hypervisor.unusable is not None:
            raise self.hypervisor.unusable

    def _fail_snapshots(self) -> None:
        if self.hypervisor.snapshot_fails is not None:
            raise self.hypervisor.snapshot_fails

    def _refuse_when_hung(self) -> None:
        if self.hypervisor.hang:
            raise HypervisorError("the hypervisor does not answer on its control socket")


def _end(machine: FakeMachine, state: MachineState) -> None:
    machine.state = state
    machine.process = None
    machine.endpoint = None


class FakeImages:
    """The images of a home, by hash and in order of arrival; `damaged` ones fail to verify."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources  # hash: source
        self.versions: dict[str, str] = {}  # by hash; else the version is the start of the hash
        self.damaged: set[str] = set()
        self.foreign = False  # True: another project's
        self.verified: list[str] = []

    def all(self) -> list[Image]:
        return [self.get(sha256) for sha256 in self.sources]

    def find(self, source: str) -> Image | None:
        hashes = [sha256 for sha256, of in self.sources.items() if of == source]
        return self.get(hashes[-1]) if hashes else None

    def get(self, sha256: str) -> Image:
        if sha256 not in self.sources:
            raise B2dError(f"the image {sha256[:12]} is no longer stored", hint="b2d download")
        iso = Path("/nonexistent") / f"{sha256}.iso"
        image = Image(sha256, iso, self.sources[sha256], self.versions.get(sha256, sha256[:4]), 1, system=sha256)
        return image if self.foreign else image._replace(kernel=iso, initrd=iso, root=Extent(0, 1))

    def verify(self, image: Image) -> None:
        self.verified.append(image.sha256)
        if image.sha256 in self.damaged:
            raise ImageError(f"the image {image.version} is damaged")


class FakeProgress:
    """A progress that counts."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    def advance(self, amount: int) -> None:
        self.done += amount


class FakeReporter:
    """A reporter that records all messages in order, as (kind, text): step, failed, progress, note, warn."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.bars: list[FakeProgress] = []

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        self.messages.append(("step", text))
        try:
            yield
        except BaseException:
            self.messages.append(("failed", text))
            raise

    @contextmanager
    def progress(self, text: str, total: int) -> Iterator[FakeProgress]:
        self.messages.append(("progress", text))
        self.bars.append(FakeProgress(total))
        yield self.bars[-1]

    def note(self, text: str) -> None:
        self.messages.append(("note", text))

    def warn(self, text: str) -> None:
        self.messages.append(("warn", text))

    def texts(self, kind: str) -> list[str]:
        """Return all messages of that kind."""
        return [text for recorded, text in self.messages if recorded == kind]


class FakeGuest:
    """A guest with prepared answers; `commands` and `shells` record the calls."""

    def __init__(self, answers: dict[str, CommandResult] | None = None) -> None:
        self.answers = answers or {}
        self.commands: list[str] = []
        self.shells: list[str | None] = []
        self.terminals: list[str | None] = []
        self.shell_exit_code = 0
        self.reachable = True

    def run(self, command: str, timeout_s: float, limit: int = 0) -> CommandResult:
        """Return the prepared answer, else success without output."""
        self._reach()
        self.commands.append(command)
        return self.answers.get(command, CommandResult(0, b"", b""))

    def shell(self, command: str | None) -> int:
        self.shells.append(command)
        return self.shell_exit_code if self.reachable else 255

    def follow(self, command: str, on_output: Callable[[bytes], None]) -> int:
        result = self.run(command, 0)
        on_output(result.stdout)
        return result.exit_code

    def run_in_pty(self, command: str | None) -> int:
        self.terminals.append(command)
        return self.shell_exit_code if self.reachable else 255

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _reach(self) -> None:
        if not self.reachable:
            raise InvalidStateError("the guest cannot be reached")
