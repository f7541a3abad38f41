"""What the companion of a machine runs: `python -m b2d.companion_main NAME`, in the home of $B2D_HOME."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from b2d import app, console, proc, relay
from b2d.app import QEMU, App
from b2d.awake import after_sleep
from b2d.clock import put_right
from b2d.docker_api import DockerApi
from b2d.errors import B2dError
from b2d.identity import is_alive
from b2d.ports import Driver, ForwardsPorts, MovesClock
from b2d.publisher import Lead, Publisher
from b2d.readiness import ping

LOCK_WAIT_S = 10.0  # for the companion of the machine's process before to see that this has ended
ONCE = "once"  # put the forwards right, and end: 0 where all could be had
ONCE_S = 60.0
ANSWER_S = 10.0  # for a Docker that has just woken


def main(name: str, how: str = "") -> int:
    """Until the machine ends; at once where there is nothing to do, or another does it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # and what it serves goes with it
    it = app.make(os.environ, {"vm": name}, console.choose(sys.stderr, False, os.environ))
    spec, facts = it.store.read(name), it.store.read_env(name)
    if spec is None or facts is None or facts.process is None:
        return 1
    driver, paths, process = it.driver(spec), it.home.machine(name), facts.process
    engine = DockerApi.of(facts.docker)
    lead = (
        Lead(driver, engine, it.settings.privileged_ports).put_right
        if isinstance(driver, ForwardsPorts)
        else lambda: True
    )
    if how == ONCE:
        return 0 if lead() else 1
    from filelock import FileLock, Timeout

    # VirtualBox's libraries are large, and they are needed for moments: they come and go with a process of their own
    put_right = lead if spec.driver == QEMU else lambda: _by_another(name)
    try:
        with FileLock(paths.companion_lock).acquire(timeout=LOCK_WAIT_S), _served(it, paths.docker_socket, engine):
            if spec.driver != QEMU and isinstance(driver, MovesClock):  # QEMU's guest has a chip that does not sleep
                watch = (lambda: _tell_the_time(it, driver, engine, name), lambda: is_alive(process), _clocks)
                threading.Thread(target=after_sleep, args=watch, daemon=True).start()
            Publisher(engine, put_right, lambda: is_alive(process)).run()
    except Timeout:
        return 1
    return 0


@contextmanager
def _served(it: App, path: Path, engine: DockerApi) -> Iterator[None]:
    """The machine's socket in the block; where there can be none, the rest is done all the same."""
    with ExitStack() as open_:
        try:
            if hasattr(socket, "AF_UNIX"):
                open_.enter_context(relay.served(path, engine))
        except OSError as error:
            it.reporter.warn(f"{path} cannot be served: {error.strerror}")
        yield


def _tell_the_time(it: App, driver: Driver, engine: DockerApi, name: str) -> bool:
    answer = ping(engine, ANSWER_S)
    if answer is None:
        return False
    put_right(answer, lambda: ping(engine, ANSWER_S), driver, it.machine(name).guest, it.reporter, time.time)
    return True


def _clocks() -> tuple[float, float]:
    return time.time(), time.monotonic()


def _by_another(name: str) -> bool:
    try:
        return proc.run([sys.executable, "-m", "b2d.companion_main", name, ONCE], timeout_s=ONCE_S).exit_code == 0
    except B2dError:
        return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
