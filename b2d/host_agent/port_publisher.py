"""Ports that containers publish appear on this host and go again, as Docker tells of it."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from b2d.docker.client import DockerApi, DockerUnavailableError
from b2d.docker.published_ports import PORT_LIMIT, forwards_for, parse_publications, select_forwarded
from b2d.drivers.base import Driver
from b2d.errors import B2dError, WaitTimeoutError
from b2d.host.polling import wait_until
from b2d.models import Forward
from b2d.network import port_allocation

ANSWER_S = 20.0  # for Docker's list of containers; an emulated one may be busy
REPORT_LIMIT = 100  # changes that wait to be looked at; who tells of more waits
ROUNDS, ROUNDS_A_S = 20.0, 2.0
RETRY_S = 1.0  # until a port that was taken, or a Docker that was silent, is tried again


@dataclass(slots=True)
class PortForwarder:
    """One running machine's forwards, and the Docker whose containers they are for."""

    driver: Driver
    engine: DockerApi
    privileged_ports: bool = False  # the setting of that name
    _beyond: int = field(default=0, init=False)  # how many ports were not led the last time

    def reconcile(self) -> bool:
        """Take away the forwards that nobody wants, and add what is wanted; False where some could not be had."""
        try:
            wanted = self._wanted()
            has = set(self.driver.forwards())
            for forward in sorted(has - wanted):
                self.driver.remove_forward(forward)
            return not [forward for forward in sorted(wanted - has) if not self._has(forward)]
        except (DockerUnavailableError, B2dError):
            return False

    def _wanted(self) -> set[Forward]:
        found = parse_publications(self.engine.containers(ANSWER_S))
        self._tell(len(found) - len(select_forwarded(found)))
        wanted = {forward for one in select_forwarded(found) for forward in forwards_for(one, self.engine.address)}
        return {forward for forward in wanted if not self._hindrance(forward)}

    def _hindrance(self, one: Forward) -> str:
        reserved = "" if self.privileged_ports else port_allocation.privileged_port_obstacle(one.address, one.port)
        return self.driver.forward_obstacle(one) or reserved

    def _tell(self, beyond: int) -> None:
        if beyond and not self._beyond:
            said = "the containers publish more than %d ports: %d of them are not led to this host"
            logging.getLogger("b2d").warning(said, PORT_LIMIT, beyond)
        self._beyond = beyond

    def _has(self, forward: Forward) -> bool:
        if not port_allocation.is_free(forward.address, forward.port, forward.protocol):
            return False  # asked here, as a hypervisor takes some that are another's: of UDP, or on IPv6 alone
        try:
            self.driver.add_forward(forward)
        except B2dError:
            return False
        return True


@dataclass(slots=True)
class RetrySchedule:
    """How often one may look: many times in a row, and then ROUNDS_A_S. A guest that tells of changes without a pause
    would have a CPU of this host for itself."""

    last: float  # when that was, in seconds of a clock that is never set
    _left: float = field(default=ROUNDS, init=False)

    def wait_s(self, now: float) -> float:
        """How long to wait before the next round, which is counted."""
        self._left = min(ROUNDS, self._left + (now - self.last) * ROUNDS_A_S) - 1
        wait_s = max(0.0, -self._left / ROUNDS_A_S)
        self.last = now
        return wait_s


class EventLoop:
    """Calls `reconcile` whenever the containers have changed, while `runs` tells that their machine does."""

    def __init__(self, engine: DockerApi, reconcile: Callable[[], bool], runs: Callable[[], bool]) -> None:
        self._engine = engine
        self._reconcile = reconcile
        self._runs = runs
        self._told: queue.Queue[bool] = queue.Queue(REPORT_LIMIT)  # True: something changed; False: Docker is silent

    def run(self) -> None:
        """Until the machine ends. Costs nothing while no container starts or ends, and no port is waited for."""
        waits = False
        listens = False
        rounds, pause = RetrySchedule(time.monotonic()), threading.Event()
        while self._runs():
            if not listens:
                threading.Thread(target=self._listen, daemon=True).start()
                listens = True
            with suppress(queue.Empty):
                listens = self._told.get(timeout=RETRY_S if waits else None)
            while listens and not self._told.empty():
                listens = self._told.get()
            if listens:
                pause.wait(rounds.wait_s(time.monotonic()))
                waits = not self._reconcile()
            else:
                with suppress(WaitTimeoutError):
                    wait_until(lambda: not self._runs(), condition="Docker, or the machine's end", timeout_s=RETRY_S)

    def _listen(self) -> None:
        try:
            with suppress(DockerUnavailableError):
                for _ in self._engine.changes(ANSWER_S):
                    self._told.put(True)
        finally:
            self._told.put(False)
