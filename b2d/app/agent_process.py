"""Run the agent of a machine: `python -m b2d.app.agent_process NAME`, in the home of $B2D_HOME."""

import errno
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from b2d.app import wiring
from b2d.app.wiring import App
from b2d.docker.client import DockerApi
from b2d.drivers import hypervisors
from b2d.drivers.base import DialsGuest, Driver
from b2d.errors import B2dError
from b2d.guest.readiness import ping
from b2d.host import processes, unix_sockets
from b2d.host.process_identity import identify, is_alive
from b2d.host.sleep_watch import after_sleep
from b2d.host_agent import docker_socket, http_guard, report
from b2d.host_agent.docker_socket import ListeningSocket
from b2d.host_agent.http_guard import HttpGuard
from b2d.host_agent.log_rotation import rotate_while
from b2d.host_agent.peer import is_owner
from b2d.host_agent.port_publisher import EventLoop, PortForwarder
from b2d.host_agent.report import DOCKER, DOCKER_SOCKET, SSH, Refusal
from b2d.host_agent.stream_end import docker_connector, guest_connector
from b2d.host_agent.tls_stream import GuardedPlainText
from b2d.machine.clock_sync import sync_guest_clock
from b2d.models import GUEST_SSH_PORT, MachineSpec
from b2d.network import port_allocation
from b2d.reporting import terminal

LOCK_WAIT_S = 10.0  # for the previous agent to notice that its machine has ended
RECONCILE_ONCE = "once"  # reconcile the forwards, and end: exit code 0 if all could be opened
ONCE_S = 60.0
DIAL_S = 10.0  # for a busy QEMU to take a connection
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
ANSWER_S = 10.0  # for a Docker that has just woken
# An emulated dockerd spends its time on a request that was given up too: so the next one may take twice as long.
LONGEST_ANSWER_S = 60.0


def main(name: str, mode: str = "") -> int:
    """Serve the machine until it ends; return at once where another agent does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # its listeners close with it
    app = wiring.make_app(os.environ, {"vm": name}, terminal.choose_reporter(sys.stderr, False, os.environ))
    spec, facts = app.store.read(name), app.store.read_env(name)
    if spec is None or facts is None or facts.process is None:
        return 1
    driver, paths, process = app.driver(spec), app.home.machine(name), facts.process
    engine = facts.engine(paths.certs)
    lead = PortForwarder(driver, engine, app.settings.privileged_ports).reconcile
    if mode == RECONCILE_ONCE:
        return 0 if lead() else 1
    from filelock import FileLock, Timeout

    hypervisor = hypervisors.get(spec.driver)
    reconcile = (lambda: _reconcile_in_subprocess(name)) if hypervisor.loads_large_libraries else lead
    try:
        with FileLock(paths.agent_lock).acquire(timeout=LOCK_WAIT_S), _serving(app, spec, engine):
            if hypervisor.clock_stops:
                watch = (partial(_sync_guest_clock, app, driver, engine, name), lambda: is_alive(process), _clocks)
                threading.Thread(target=after_sleep, args=watch, daemon=True).start()
            watch_logs = (lambda: is_alive(process), (*hypervisor.growing_logs(paths), paths.agent_log))
            threading.Thread(target=rotate_while, args=watch_logs, daemon=True).start()
            EventLoop(engine, reconcile, lambda: is_alive(process)).run()
    except Timeout:
        return 1
    return 0


@contextmanager
def _serving(app: App, spec: MachineSpec, engine: DockerApi) -> Iterator[None]:
    """Forward the machine's socket and ports in the block; one that cannot be opened is reported and skipped."""
    paths = app.home.machine(spec.name)
    entrances: list[ListeningSocket] = []
    refusals: list[Refusal] = []
    with ExitStack() as opened:
        if hasattr(socket, "AF_UNIX"):
            try:
                listener = opened.enter_context(unix_sockets.listening(paths.docker_socket))
                entrances.append(ListeningSocket(listener, docker_connector(engine)))
            except OSError as error:
                refusals.append(Refusal(DOCKER_SOCKET, str(paths.docker_socket), error.strerror or str(error)))
        for port, (service, make) in _agent_ports(app, spec, engine).items():
            try:
                entrances.append(make(socket.create_server((spec.address, port))))
            except OSError as error:
                refusals.append(_refusal(service, (spec.address, port), error))
        opened.enter_context(docker_socket.relay_connections(entrances))
        _report_refusals(app, spec, refusals)
        yield


def _refusal(service: str, place: tuple[str, int], error: OSError) -> Refusal:
    taken = error.errno == errno.EADDRINUSE
    reason = f"{port_allocation.port_holder(*place)} uses that port" if taken else error.strerror or str(error)
    return Refusal(service, f"{place[0]}:{place[1]}", reason)


def _report_refusals(app: App, spec: MachineSpec, refusals: list[Refusal]) -> None:
    """Record that the agent serves, and log and record what it could not open."""
    for refusal in refusals:
        app.reporter.warn(refusal.sentence(spec.name))
    identity = identify(os.getpid())
    if identity is not None:
        with suppress(OSError):  # the disk may be full; `up` then times out and warns
            report.write(app.home.machine(spec.name).agent_report, identity, refusals)


def _agent_ports(
    app: App, spec: MachineSpec, engine: DockerApi
) -> dict[int, tuple[str, Callable[[socket.socket], ListeningSocket]]]:
    """Return the ports that the agent listens on, for this user alone, each with its service and socket factory."""
    ports: dict[int, tuple[str, Callable[[socket.socket], ListeningSocket]]] = {}
    if not spec.guarded:  # an older b2d booted it, and the hypervisor has them
        return ports
    if not spec.tls:
        hosts = (spec.address, *LOOPBACK_NAMES)

        def guarded() -> GuardedPlainText:
            return GuardedPlainText(HttpGuard(hosts).check, http_guard.forbidden_response())

        ports[spec.docker_port] = (
            DOCKER,
            lambda listener: ListeningSocket(listener, docker_connector(engine), is_owner, guarded),
        )
    driver = app.driver(spec)
    if isinstance(driver, DialsGuest):
        dial = driver.dial
        reach = guest_connector(lambda: dial(GUEST_SSH_PORT, DIAL_S))
        ports[spec.ssh_port] = (SSH, lambda listener: ListeningSocket(listener, reach, is_owner, dials=True))
    return ports


def _sync_guest_clock(app: App, driver: Driver, engine: DockerApi, name: str, failures: int) -> bool:
    answer_s = min(ANSWER_S * 2**failures, LONGEST_ANSWER_S)
    answer = ping(engine, answer_s)
    if answer is None:
        return False
    sync_guest_clock(answer, lambda: ping(engine, answer_s), driver, app.machine(name).guest, app.reporter, time.time)
    return True


def _clocks() -> tuple[float, float]:
    return time.time(), time.monotonic()


def _reconcile_in_subprocess(name: str) -> bool:
    try:
        return (
            processes.run(
                [sys.executable, "-P", "-m", "b2d.app.agent_process", name, RECONCILE_ONCE], timeout_s=ONCE_S
            ).exit_code
            == 0
        )
    except B2dError:
        return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
