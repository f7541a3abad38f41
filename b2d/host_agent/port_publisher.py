"""The forwards of ports that containers publish, kept up to date by Docker's events."""

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

ANSWER_S = 20.0  # for Docker's list of containers; an emulated guest may be slow
REPORT_LIMIT = 100  # queued changes; the listener waits beyond it
ROUNDS, ROUNDS_A_S = 20.0, 2.0
RETRY_S = 1.0  # until the next attempt at a taken port or a silent Docker


@dataclass(slots=True)
class PortForwarder:
    """The forwards of one running machine, and the Docker whose containers they are for."""

    driver: Driver
    engine: DockerApi
    privileged_ports: bool = False  # the setting of that name
    _excess: int = field(default=0, init=False)  # number of ports over the limit in the last round

    def reconcile(self) -> bool:
        """Remove unwanted forwards, and add the missing ones; return False when some cannot be opened."""
        try:
            wanted = self._wanted()
            existing = set(self.driver.forwards())
            for forward in sorted(existing - wanted):
                self.driver.remove_forward(forward)
            return not [forward for forward in sorted(wanted - existing) if not self._try_add(forward)]
        except (DockerUnavailableError, B2dError):
            return False

    def _wanted(self) -> set[Forward]:
        published = parse_publications(self.engine.containers(ANSWER_S))
        self._report_excess(len(published) - len(select_forwarded(published)))
        wanted = {
            forward
            for publication in select_forwarded(published)
            for forward in forwards_for(publication, self.engine.address)
        }
        return {forward for forward in wanted if not self._obstacle(forward)}

    def _obstacle(self, forward: Forward) -> str:
        reserved = (
            "" if self.privileged_ports else port_allocation.privileged_port_obstacle(forward.address, forward.port)
        )
        return self.driver.forward_obstacle(forward) or reserved

    def _report_excess(self, excess: int) -> None:
        if excess and not self._excess:
            message = "the containers publish more than %d ports: %d of them are not forwarded to this host"
            logging.getLogger("b2d").warning(message, PORT_LIMIT, excess)
        self._excess = excess

    def _try_add(self, forward: Forward) -> bool:
        if not port_allocation.is_free(forward.address, forward.port, forward.protocol):
            return False  # checked first: a hypervisor accepts some ports of other programs, of UDP or on IPv6 alone
        try:
            self.driver.add_forward(forward)
        except B2dError:
            return False
        return True


@dataclass(slots=True)
class RetrySchedule:
    """A rate limit: ROUNDS in a row, then ROUNDS_A_S per second.

    Else a guest that reports changes without a pause would use a whole CPU of this host.
    """

    last: float  # time of the last round, in seconds of a monotonic clock
    _left: float = field(default=ROUNDS, init=False)

    def wait_s(self, now: float) -> float:
        """Return the seconds to wait before the next round, and count it."""
        self._left = min(ROUNDS, self._left + (now - self.last) * ROUNDS_A_S) - 1
        wait_s = max(0.0, -self._left / ROUNDS_A_S)
        self.last = now
        return wait_s


class EventLoop:
    """A loop that calls `reconcile` whenever the containers have changed, while `runs` returns true."""

    def __init__(self, engine: DockerApi, reconcile: Callable[[], bool], runs: Callable[[], bool]) -> None:
        """Prepare the queue of events."""
        self._engine = engine
        self._reconcile = reconcile
        self._runs = runs
        # True: a change; False: the connection to Docker ended
        self._events: queue.Queue[bool] = queue.Queue(REPORT_LIMIT)

    def run(self) -> None:
        """Run until the machine ends, without cost while no container starts or ends, and no port is awaited."""
        is_waiting = False
        is_listening = False
        rounds, pause = RetrySchedule(time.monotonic()), threading.Event()
        while self._runs():
            if not is_listening:
                threading.Thread(target=self._listen, daemon=True).start()
                is_listening = True
            with suppress(queue.Empty):
                is_listening = self._events.get(timeout=RETRY_S if is_waiting else None)
            while is_listening and not self._events.empty():
                is_listening = self._events.get()
            if is_listening:
                pause.wait(rounds.wait_s(time.monotonic()))
                is_waiting = not self._reconcile()
            else:
                with suppress(WaitTimeoutError):
                    wait_until(lambda: not self._runs(), condition="Docker, or the machine's end", timeout_s=RETRY_S)

    def _listen(self) -> None:
        try:
            with suppress(DockerUnavailableError):
                for _ in self._engine.changes(ANSWER_S):
                    self._events.put(True)
        finally:
            self._events.put(False)
