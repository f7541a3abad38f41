"""A machine is watched while it comes up, until Docker answers or it is certain that it will not."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from b2d.docker.client import DockerApi
from b2d.drivers.base import Driver
from b2d.errors import B2dError, InvalidStateError, WaitTimeoutError
from b2d.guest.readiness import Ping, find_problems, parse_stages, ping
from b2d.host.files import write_atomic
from b2d.host.polling import wait_until
from b2d.machine_store.store import MachineStore
from b2d.models import STARTED_STATES, MachineSpec, MachineState
from b2d.reporting.base import Reporter
from b2d.reporting.safe_text import many_lines

INTERVAL_S = 0.05
TAIL_LINES = 20
MAX_WARNINGS = 20  # of a guest that has something new to say without an end; all of it is on its console

# What is waited for, by the stage that ends the wait; before the first one nobody knows whether there will be any.
ORDER = ("kernel", "root", "disk", "network", "ssh", "docker")
ANSWERED = (
    "ready"  # said some time after that: a line before it may be lost, as a getty that starts drops what is unsent
)
TEXTS = ("kernel", "root file system", "data disk", "network", "ssh server", "Docker daemon", "Docker API")

# A port of the guest's answers or refuses at once, except while the guest is not on its network yet: then the
# hypervisor has taken the connection, and sends it on only after seconds, when nobody waits for it any more. So a
# guest that boots is not asked before it has named a stage, unless it keeps silent; then with short attempts.
# Once dockerd runs a patient one: it listens seconds before it answers, an emulated one ten minutes, and each greeting
# that was given up costs it more time than one that waits. When the machine ends, so does the connection.
ATTEMPT_S = 10.0
ATTEMPT_GROWTH = 1.25
LONGEST_S = 60.0  # what the guest says meanwhile is read after it


@dataclass(frozen=True, slots=True)
class BootTimeouts:
    """How long a guest that has named no stage is left alone, and then has for its first answer."""

    silence_s: float
    attempt_s: float
    behind: int = 0  # stages of ORDER that it passed before it slept
    ran: bool = False  # already


class UnexpectedPowerOffError(B2dError):
    """A machine that ran already powered itself off: it was told to before, by a `stop` that was cut off, say."""


BOOT_TIMEOUTS = BootTimeouts(silence_s=5.0, attempt_s=0.3)
RUNNING_TIMEOUTS = BootTimeouts(silence_s=0.0, attempt_s=0.3, ran=True)
RESUME_TIMEOUTS = BootTimeouts(
    silence_s=0.0, attempt_s=ATTEMPT_S, behind=len(ORDER)
)  # from where it slept, and is on its network


def await_docker(
    name: str,
    driver: Driver,
    ping: Callable[[float], Ping | None],
    reporter: Reporter,
    timeout_s: float,
    patience: BootTimeouts = BOOT_TIMEOUTS,
) -> Ping:
    """Return Docker's first answer; `ping` is one attempt, given its time-out in seconds.

    Raises B2dError as soon as the machine ends, stops going on, or says that it failed, and WaitTimeoutError: with the
    stage that it had reached, and the end of what it wrote on its console as details.
    """
    with _Steps(reporter, patience.behind) as steps:
        watch = _Watch(name, driver, ping, reporter, steps, patience)
        try:
            wait_until(watch.look, condition="Docker", timeout_s=timeout_s, interval_s=INTERVAL_S)
        except WaitTimeoutError:
            raise WaitTimeoutError(
                f"Docker in {name} did not answer within {timeout_s:.0f} s; {watch.reached()}",
                hint="b2d logs",
                details=watch.tail(),
            ) from None
    if watch.answer is None:
        raise AssertionError("look() was true without an answer")
    return watch.answer


def check_docker(driver: Driver, certs: Path | None, timeout_s: float) -> Ping | None:
    """One attempt at the machine's Docker; None where it does not answer, or the machine does not run."""
    try:
        endpoint = driver.endpoint()
    except InvalidStateError:
        return None
    return ping(DockerApi(endpoint.address, endpoint.docker_port, certs), timeout_s)


@contextmanager
def screenshot_on_failure(driver: Driver, path: Path) -> Iterator[None]:
    """Keep the machine's screen at `path` when it does not come up; the error says so."""
    try:
        yield
    except B2dError as error:
        message = error.message
        with suppress(B2dError, OSError):
            write_atomic(path, driver.screenshot())
            message += f"; its screen: {path}"
        raise error.replace(message=message) from error


@contextmanager
def confirm_image_on_success(spec: MachineSpec, store: MachineStore) -> Iterator[None]:
    """End the image's trial when the machine comes up in the block; an error gets the way back as its hint."""
    try:
        yield
    except B2dError as error:
        if spec.trial and spec.previous:
            raise error.replace(hint="b2d rollback") from error
        raise
    if spec.trial:
        store.write(replace(spec, trial=False))


class _Steps:
    """The stages as steps: each lasts until the next one begins."""

    def __init__(self, reporter: Reporter, behind: int) -> None:
        self._reporter = reporter
        self._behind = behind
        self._shown = behind - 1
        self._open = ExitStack()

    def __enter__(self) -> "_Steps":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def show(self, reached: int) -> None:
        """Show what comes after `reached` stages, and one after the other all that was passed since."""
        while self._shown < max(reached, self._behind):
            self._shown += 1
            self._open.close()
            self._open.enter_context(self._reporter.step(TEXTS[self._shown]))


class _Watch:
    """One machine that comes up: what was seen of it so far."""

    def __init__(
        self,
        name: str,
        driver: Driver,
        ping: Callable[[float], Ping | None],
        reporter: Reporter,
        steps: _Steps,
        patience: BootTimeouts,
    ) -> None:
        self.answer: Ping | None = None
        self._silent_until = time.monotonic() + patience.silence_s
        self._name = name
        self._driver = driver
        self._ping = ping
        self._reporter = reporter
        self._steps = steps
        self._text = ""
        self._stage = ""  # the last that it named
        self._reached = 0  # how many of ORDER are behind it
        self._warned: set[str] = set()
        self._failure = ""
        self._attempt_s = patience.attempt_s
        self._ran = patience.ran

    def look(self) -> bool:
        """Return True once Docker has answered. Raises B2dError when it will not."""
        self._listen()
        self._steps.show(self._reached)
        if self._docker_may_answer() and self._ask():
            return True
        state = self._driver.state()
        if state not in STARTED_STATES:
            self._listen()  # its last words
            self._end(state)
        if self._failure:
            raise self._error(f"{self._name} could not come up: {self._failure}")
        return False

    def reached(self) -> str:
        """How far it came, for a message."""
        return f"it had reached the stage {self._stage!r}" if self._stage else "it had named no stage yet"

    def tail(self) -> str:
        """Return the last lines of the console, without terminal control characters."""
        return "\n".join(many_lines(self._text).rstrip().split("\n")[-TAIL_LINES:])

    def _listen(self) -> None:
        text = self._driver.console()
        if text == self._text:
            return
        self._text = text
        for stage in parse_stages(text):
            self._stage = stage.name
            if stage.name == ANSWERED:
                self._reached = len(ORDER)
            elif stage.name in ORDER:
                self._reached = max(self._reached, ORDER.index(stage.name) + 1)
        for trouble in find_problems(text):
            if trouble.fatal:
                self._failure = trouble.text
            elif trouble.text not in self._warned and len(self._warned) < MAX_WARNINGS:
                self._warned.add(trouble.text)
                self._reporter.warn(f"{self._name}: {trouble.text}")

    def _docker_may_answer(self) -> bool:
        """Before dockerd runs nobody can answer; an image that names no stage may answer at any time."""
        return self._reached == len(ORDER) if self._stage else time.monotonic() >= self._silent_until

    def _ask(self) -> bool:
        shortest_s, longest_s = (ATTEMPT_S, LONGEST_S) if self._stage else (0.0, ATTEMPT_S)
        timeout_s = max(self._attempt_s, shortest_s)
        begin = time.monotonic()
        self.answer = self._ping(timeout_s)
        if time.monotonic() - begin >= timeout_s:  # a slow guest is given more and more
            self._attempt_s = min(timeout_s * ATTEMPT_GROWTH, longest_s)
        return self.answer is not None

    def _end(self, state: MachineState) -> None:
        if self._failure:
            raise self._error(f"{self._name} could not come up: {self._failure}")
        kind = UnexpectedPowerOffError if self._ran and state == MachineState.STOPPED else B2dError
        raise self._error(f"{self._name} is {state}, before Docker answered; {self.reached()}", kind)

    def _error(self, message: str, kind: type[B2dError] = B2dError) -> B2dError:
        return kind(message, hint="b2d logs", details=self.tail())
