"""A machine of the fake hypervisor in a home of its own, with a Docker that listens on a loopback address."""

import json
import os
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, TypeVar, cast

from b2d.drivers.base import Driver
from b2d.errors import GuestUnreachableError
from b2d.guest.base import Dial, Guest
from b2d.host import unix_sockets
from b2d.image.base import ImageLookup
from b2d.machine.lifecycle import Machine
from b2d.machine_store.store import MachineStore
from b2d.models import GUEST_DOCKER_PORT, HARDWARE, Access, Endpoint, Image, MachineSpec, MachineState
from b2d.paths import Home, MachinePaths
from b2d.reporting.base import Reporter
from tests.support.fakes import ALIVE, FakeDriver, FakeGuest, FakeHypervisor, FakeImages, FakeReporter, a_spec

Dependency = TypeVar("Dependency")

# private to this process: parallel tests use others
ADDRESS = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
SSH, DOCKER = 22022, 22375
BOOT = "b2d: 1.0 kernel\nb2d: 9.0 docker"  # console output of a guest, read at once


class Nameless(ThreadingHTTPServer):
    """A server that does not look up this host's name, which takes 10 ms each time."""

    server_bind = TCPServer.server_bind


class Engine:
    """The guest's open ports: Docker's API as far as /_ping, with the seed's TLS settings; SSH only listens."""

    def __init__(self, spec: MachineSpec, paths: MachinePaths, box: "Box") -> None:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = box.docker_response(self.path)
                self.send_response(503 if content is None else 200)
                self.send_header("Api-Version", "1.45")
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + box.clock_ahead_s, usegmt=True)

            def log_message(self, *_: object) -> None:
                pass

        self._ssh = socket.create_server((spec.address, spec.ssh_port))
        self._docker = Nameless((spec.address, spec.forwarded_docker_port), Answer)
        if spec.tls or spec.guarded:
            self._docker.socket = _context(paths).wrap_socket(self._docker.socket, server_side=True)
        threading.Thread(target=self._docker.serve_forever, args=(0.005,), daemon=True).start()

    def close(self) -> None:
        self._ssh.close()
        self._docker.shutdown()
        self._docker.server_close()


def _context(paths: MachinePaths) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside = paths.folder.parent.parent / "guest"
    with tarfile.open(paths.seed) as seed:
        seed.extractall(inside, filter="data")
    context.load_cert_chain(inside / "tls" / "server.pem", inside / "tls" / "server-key.pem")
    context.load_verify_locations(inside / "tls" / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class ListeningDriver(FakeDriver):
    """A fake driver whose machine listens on its ports as long as its process lives."""

    def __init__(self, spec: MachineSpec, box: "Box") -> None:
        super().__init__(spec, box.hypervisor)
        self.calls = box.calls
        self._box = box

    def state(self) -> MachineState:
        state = super().state()
        if state == MachineState.STOPPING and self._box.looks_until_off is not None:
            self._box.looks_until_off -= 1
            if self._box.looks_until_off < 0:
                super().kill()
                self.calls.pop()
                self._hang_up()
        return state

    def start(self) -> None:
        super().start()
        if self._box.listens and self.spec.name not in self._box.engines:
            paths = self._box.home.machine(self.spec.name)
            self._box.engines[self.spec.name] = Engine(self.spec, paths, self._box)
        self._box.apply_failures(self)

    def stop(self) -> None:
        self._note("stop")
        super().stop()
        self._hang_up()

    def kill(self) -> None:
        self._note("kill")
        super().kill()
        self._hang_up()

    def save(self) -> None:
        self._note("save")
        super().save()
        self._hang_up()

    def delete(self) -> None:
        self._note("delete")
        super().delete()
        self._hang_up()

    def crash(self) -> None:
        super().crash()
        self._hang_up()

    def panic(self) -> None:
        """Crash the guest; the hypervisor's process stays, with its ports."""
        self._existing().state = MachineState.CRASHED

    def _note(self, verb: str) -> None:
        self._box.pointed_at.append((verb, self._box.paths.env.exists()))

    def _hang_up(self) -> None:
        machine = self.machine
        if machine is None or machine.state not in ALIVE:
            engine = self._box.engines.pop(self.spec.name, None)
            if engine is not None:
                engine.close()


class BoxGuest(FakeGuest):
    """A guest whose clock can be moved."""

    def __init__(self, box: "Box") -> None:
        super().__init__()
        self._box = box

    def run(self, command: str, timeout_s: float, limit: int = 0) -> Any:
        completed = super().run(command, timeout_s)
        if command.startswith("sudo date -u -s"):
            moved = command.partition(" && ")[0]
            self._box.clock_ahead_s += int(moved.rsplit("+", maxsplit=1)[-1].strip(" )"))
        return completed


class Interrupter:
    """An interrupter: it raises KeyboardInterrupt once, before or after one call of the watched dependencies."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.passed = 0

    def watch(self, dependency: Dependency) -> Dependency:
        return cast(Dependency, _Watched(dependency, self)) if self.at is not None else dependency

    def check(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise KeyboardInterrupt


class _Watched:
    """A dependency with a check before and after each call."""

    def __init__(self, dependency: object, strikes: Interrupter) -> None:
        self._dependency = dependency
        self._strikes = strikes

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._dependency, name)
        if not callable(member):
            return member

        def call(*arguments: Any, **named: Any) -> Any:
            self._strikes.check()
            result = member(*arguments, **named)
            self._strikes.check()
            return result

        return call


def host_of(box: "Box") -> str:
    """Return the DOCKER_HOST of a machine without TLS: its socket, unless the path is too long."""
    socket_path = box.paths.docker_socket
    return f"unix://{socket_path}" if unix_sockets.fits(socket_path) else f"tcp://{ADDRESS}:{DOCKER}"


@dataclass(frozen=True)
class Source:
    """A source of specs for new machines."""

    make: Callable[[], MachineSpec]

    def new_machine_spec(self) -> MachineSpec:
        return self.make()

    def with_image(self, spec: MachineSpec) -> MachineSpec:
        return spec


class FakeServices:
    """The dependencies of a Box's machine, each of them watched; a test may replace them."""

    def __init__(self, box: "Box", watch: Callable[[Any], Any] = lambda dependency: dependency) -> None:
        self.box = box
        self.watch = watch
        self.store: MachineStore = watch(box.store)
        self.reporter: Reporter = watch(box.reporter)
        self.access = Access()

    @property
    def images(self) -> ImageLookup:
        return cast(ImageLookup, self.watch(self.box.images))

    @property
    def wait_s(self) -> float:
        return self.box.wait_s

    @property
    def stop_wait_s(self) -> float:
        return self.box.stop_wait_s

    def driver(self, spec: MachineSpec) -> Driver:
        return cast(Driver, self.watch(self.box.driver(spec)))

    def guest(self, endpoint: Endpoint, paths: MachinePaths, dial: Dial | None) -> Guest:
        return cast(Guest, self.watch(self.box.guest))

    def unknown_guest(self, endpoint: Endpoint, paths: MachinePaths, dial: Dial | None, greeting_s: float) -> Guest:
        raise GuestUnreachableError("it has no SSH server")

    def guest_network(self, spec: MachineSpec) -> dict[str, bytes]:
        return self.box.network


@dataclass
class Box:
    """A home with one hypervisor; tests set the behaviour."""

    home: Home
    hypervisor: FakeHypervisor = field(default_factory=lambda: FakeHypervisor(script=[BOOT]))
    reporter: FakeReporter = field(default_factory=FakeReporter)
    images: FakeImages = field(default_factory=lambda: FakeImages({"0" * 64: "debian"}))
    engines: dict[str, Engine] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)  # of all drivers
    pointed_at: list[tuple[str, bool]] = field(default_factory=list)  # the last calls, and whether env existed then
    docker_answers: bool = True
    runs: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # by image: the versions that Docker reports of itself and Linux
    storage: str = "overlay2"
    crashing: set[str] = field(default_factory=set)  # images whose guests crash at once
    silent: set[str] = field(default_factory=set)  # whose Docker does not answer
    failing: dict[str, str] = field(default_factory=dict)  # whose guests report a fatal error
    listens: bool = True  # False: no port is open
    clock_ahead_s: float = 0
    looks_until_off: int | None = None  # number of queries that see a machine stopping before it is off; None: always
    wait_s: float = 5
    stop_wait_s: float = 0.2
    lock_wait_s: float = 0.1
    network: dict[str, bytes] = field(default_factory=dict)  # network files for the guest

    def __post_init__(self) -> None:
        self.guest = BoxGuest(self)

    @property
    def store(self) -> MachineStore:
        return MachineStore(self.home, self.lock_wait_s)

    @property
    def paths(self) -> MachinePaths:
        return self.home.machine("box")

    def spec(self, **changes: object) -> MachineSpec:
        """Return a spec with today's hardware, and Docker without TLS unless a test changes it."""
        usual = {"address": ADDRESS, "tls": False, "ssh_port": SSH, "docker_port": DOCKER, "hardware": HARDWARE}
        if not changes.get("tls"):
            usual["engine_port"] = GUEST_DOCKER_PORT
        return a_spec("box", **{**usual, **changes})

    def driver(self, spec: MachineSpec | None = None) -> ListeningDriver:
        return ListeningDriver(spec or self.store.read("box") or self.spec(), self)

    def machine(self, strikes: Interrupter | None = None) -> Machine:
        watch = (strikes or Interrupter()).watch
        return Machine("box", FakeServices(self, watch))

    def create_machine(self, **changes: object) -> Machine:
        machine = self.machine()
        machine.init(Source(lambda: self.spec(**changes)))
        return machine

    def in_state(self, state: MachineState) -> Machine:
        """Return a machine that reached that state by the usual calls; earlier calls are forgotten."""
        machine = self.machine() if state == MachineState.ABSENT else self.create_machine()
        if state not in (MachineState.ABSENT, MachineState.STOPPED):
            machine.up()
        if state == MachineState.SAVED:
            machine.save()
        elif state == MachineState.CRASHED:
            self.driver().crash()
        elif state == MachineState.PAUSED:
            self.driver().pause()
        elif state in (MachineState.STARTING, MachineState.STOPPING):
            self.hypervisor.machines["box"].state = state
        self.calls.clear()
        self.pointed_at.clear()
        self.reporter.messages.clear()
        return machine

    def booted(self) -> str:
        """Return the image of the last boot."""
        booted = self.hypervisor.machines["box"].booted
        return booted.image if booted is not None else ""

    def docker_response(self, path: str) -> bytes | None:
        """Return the answer of Docker in the machine, None when it does not answer."""
        if not self.docker_answers or self.booted() in self.silent:
            return None
        if path == "/info" and self.booted() in self.runs:
            docker, linux = self.runs[self.booted()]
            facts = {"ServerVersion": docker, "KernelVersion": linux, "Driver": self.storage}
            return json.dumps(facts).encode()
        return b"" if path == "/_ping" else None

    def apply_failures(self, driver: ListeningDriver) -> None:
        """Apply the configured failure, if any, to a guest that has just started."""
        if self.booted() in self.failing:
            self.hypervisor.machines["box"].console = f"b2d: 1.0 kernel\nb2d: fail {self.failing[self.booted()]}\n"
        if self.booted() in self.crashing:
            driver.crash()

    def add_newer_image(self, letter: str = "1") -> Image:
        """Store a newer image of the source debian."""
        self.images.sources[letter * 64] = "debian"
        return self.images.get(letter * 64)

    def close(self) -> None:
        for engine in self.engines.values():
            engine.close()
