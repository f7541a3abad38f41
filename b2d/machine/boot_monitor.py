"""Monitor a machine while it boots, until Docker answers or it is certain that it will not."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from b2d.docker.client import DockerApi
from b2d.drivers.base import Driver
from b2d.errors import B2dError, GuestUnreachableError, InvalidStateError, WaitTimeoutError
from b2d.guest.readiness import Ping, find_problems, parse_stages, ping
from b2d.host.files import write_atomic
from b2d.host.polling import wait_until
from b2d.machine_names import command_for
from b2d.machine_store.store import MachineStore
from b2d.models import STARTED_STATES, SUSPENDED_STATES, MachineSpec, MachineState
from b2d.reporting.base import Reporter
from b2d.reporting.safe_text import many_lines

INTERVAL_S = 0.05
TAIL_LINES = 20
MAX_WARNINGS = 20  # from a guest that reports problems without end; the console has all of them

# The stages of a boot, in order; an image of another project reports none.
ORDER = ("kernel", "root", "disk", "network", "ssh", "docker")
ANSWERED = (
    "ready"  # reported some time later: a line before it may be lost, because a starting getty discards unsent output
)
RELEASED = "released"  # by a guest that continues from a template, in the place of the stages before the disk
TEXTS = ("kernel", "root file system", "data disk", "network", "ssh server", "Docker daemon", "Docker API")

# A port of the guest accepts or refuses at once, except before the guest has a network: then the hypervisor accepts the
# connection, and forwards it only seconds later, after the attempt has timed out. So Docker in a booting guest is not
# pinged before the guest has reported a stage, unless it reports none; then with short timeouts. Once dockerd runs,
# timeouts are long: it listens seconds before it answers, an emulated one minutes, and it spends seconds on each TLS
# handshake, also on an aborted one. So a guest that is that slow is left alone until it reports that Docker answers, or
# for PAUSE_S. A connection ends with the machine.
ATTEMPT_S = 10.0
ATTEMPT_GROWTH = 1.25
LONGEST_S = 60.0  # console output of that time is read afterwards
PAUSE_S = 60.0
# A missing SSH server costs an attempt its whole time, but one that VirtualBox interprets needs half a minute to greet
GREETING_S, GREETING_GROWTH = 1.0, 1.3
SET_UP_PAUSE_S = 1.0  # between attempts to reach the SSH server of a guest that reports no stages


@dataclass(frozen=True, slots=True)
class BootTimeouts:
    """How long to wait for a first stage before pinging Docker, and the timeout of the first ping, in seconds."""

    silence_s: float
    attempt_s: float
    behind: int = 0  # stages of ORDER that it had passed when it was suspended
    ran: bool = False  # the machine was running before


@dataclass(frozen=True, slots=True)
class Attempts:
    """What is tried with a booting guest, again and again."""

    ping: Callable[[float], Ping | None]  # ask Docker, with a timeout in seconds
    # set up a guest that reports no stages, as one that reads no seed disk, whose SSH server has so many seconds to
    # greet; called until it returns True
    set_up: Callable[[float], bool] | None = None


class UnexpectedPowerOffError(B2dError):
    """A running machine powered itself off, for example because of an interrupted `stop`."""


BOOT_TIMEOUTS = BootTimeouts(silence_s=5.0, attempt_s=0.3)
RUNNING_TIMEOUTS = BootTimeouts(silence_s=0.0, attempt_s=0.3, ran=True)
RESUME_TIMEOUTS = BootTimeouts(
    silence_s=0.0, attempt_s=ATTEMPT_S, behind=len(ORDER)
)  # the guest continues, with its network


def timeouts_after(before: MachineState) -> BootTimeouts:
    """Return the timeouts for a machine that was in that state before it was started."""
    if before in SUSPENDED_STATES:
        return RESUME_TIMEOUTS
    return RUNNING_TIMEOUTS if before == MachineState.RUNNING else BOOT_TIMEOUTS


def await_docker(
    name: str,
    driver: Driver,
    attempts: Attempts,
    reporter: Reporter,
    timeout_s: float,
    patience: BootTimeouts = BOOT_TIMEOUTS,
) -> Ping:
    """Return Docker's first answer.

    Raises B2dError as soon as the machine ends, pauses or reports a failure, and WaitTimeoutError: with the stage that
    it had reached, and the last lines of its console as details.
    """
    with _Steps(reporter, patience.behind) as steps:
        watch = _Watch(name, driver, attempts, reporter, steps, patience)
        try:
            wait_until(watch.look, condition="Docker", timeout_s=timeout_s, interval_s=INTERVAL_S)
        except WaitTimeoutError:
            raise WaitTimeoutError(
                f"Docker in {name} did not answer within {timeout_s:.0f} s; {watch.reached()}",
                hint=command_for("logs", name),
                details=watch.tail(),
            ) from None
    if watch.answer is None:
        raise AssertionError("look() was true without an answer")
    return watch.answer


def check_docker(driver: Driver, certs: Path | None, timeout_s: float) -> Ping | None:
    """Ping the machine's Docker once; return None when it does not answer or the machine is not running."""
    try:
        endpoint = driver.endpoint()
    except InvalidStateError:
        return None
    return ping(DockerApi(endpoint.address, endpoint.docker_port, certs), timeout_s)


@contextmanager
def screenshot_on_failure(driver: Driver, path: Path) -> Iterator[None]:
    """Save the machine's screen to `path` when the block fails, and name the file in the error."""
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
    """End the image's trial when the block succeeds; an error gets the rollback command as its hint."""
    try:
        yield
    except B2dError as error:
        if spec.trial and spec.previous:
            raise error.replace(hint=command_for("rollback", spec.name)) from error
        raise
    if spec.trial:
        store.write(spec._replace(trial=False))


class _Steps:
    """The stages of a boot as steps on the terminal: each lasts until the next one begins."""

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

    def skip(self, passed: int) -> None:
        """Show none of the first `passed` stages."""
        self._behind = max(self._behind, passed)
        self._shown = max(self._shown, passed - 1)

    def show(self, reached: int) -> None:
        """Show the step after `reached` stages, and before it each step that was passed since the last call."""
        while self._shown < max(reached, self._behind):
            self._shown += 1
            self._open.close()
            self._open.enter_context(self._reporter.step(TEXTS[self._shown]))


class _Watch:
    """A booting machine, and what its console has reported so far."""

    def __init__(
        self,
        name: str,
        driver: Driver,
        attempts: Attempts,
        reporter: Reporter,
        steps: _Steps,
        patience: BootTimeouts,
    ) -> None:
        self.answer: Ping | None = None
        self._silent_until = time.monotonic() + patience.silence_s
        self._name = name
        self._driver = driver
        self._ping = attempts.ping
        self._reporter = reporter
        self._steps = steps
        self._text = ""
        self._stage = ""  # the last one reported
        self._reached = 0  # the number of stages of ORDER that it has passed
        self._warned: set[str] = set()
        self._failure = ""
        self._attempt_s = patience.attempt_s
        self._ran = patience.ran
        self._paused_until = 0.0
        self._set_up = attempts.set_up
        self._set_up_at = self._silent_until
        self._greeting_s = GREETING_S

    def look(self) -> bool:
        """Return True once Docker has answered. Raises B2dError when it will not."""
        self._listen()
        self._steps.show(self._reached)
        if self._docker_may_answer() and self._ask():
            return True
        self._set_up_guest()
        state = self._driver.state()
        if state not in STARTED_STATES:
            self._listen()  # its last output
            self._end(state)
        if self._failure:
            raise self._error(f"{self._name} could not start: {self._failure}")
        return False

    def reached(self) -> str:
        """Return how far the boot came, for a message."""
        return f"it had reached the stage {self._stage!r}" if self._stage else "it had not reported a stage"

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
                self._paused_until = 0.0
            elif stage.name == RELEASED:
                self._reached = max(self._reached, ORDER.index("disk"))
                self._steps.skip(self._reached)
            elif stage.name in ORDER:
                self._reached = max(self._reached, ORDER.index(stage.name) + 1)
        for trouble in find_problems(text):
            if trouble.fatal:
                self._failure = trouble.text
            elif trouble.text not in self._warned and len(self._warned) < MAX_WARNINGS:
                self._warned.add(trouble.text)
                self._reporter.warn(f"{self._name}: {trouble.text}")

    def _docker_may_answer(self) -> bool:
        """Tell whether a ping may succeed: dockerd runs, or the image reports no stages."""
        if not self._stage:
            return time.monotonic() >= self._silent_until
        return self._reached == len(ORDER) and time.monotonic() >= self._paused_until

    def _ask(self) -> bool:
        shortest_s, longest_s = (ATTEMPT_S, LONGEST_S) if self._stage else (0.0, ATTEMPT_S)
        timeout_s = max(self._attempt_s, shortest_s)
        begin = time.monotonic()
        self.answer = self._ping(timeout_s)
        if time.monotonic() - begin >= timeout_s:  # a slow guest gets a longer timeout each time
            self._attempt_s = min(timeout_s * ATTEMPT_GROWTH, longest_s)
            if self._stage not in ("", ANSWERED):
                self._paused_until = time.monotonic() + PAUSE_S
        return self.answer is not None

    def _set_up_guest(self) -> None:
        """Set up a guest that reports no stages, as soon as its SSH server answers."""
        if self._set_up is None or self._stage or time.monotonic() < self._set_up_at:
            return
        with suppress(GuestUnreachableError):
            if self._set_up(self._greeting_s):
                self._set_up = None
        self._greeting_s = min(self._greeting_s * GREETING_GROWTH, LONGEST_S)
        self._set_up_at = time.monotonic() + SET_UP_PAUSE_S

    def _end(self, state: MachineState) -> None:
        if self._failure:
            raise self._error(f"{self._name} could not start: {self._failure}")
        kind = UnexpectedPowerOffError if self._ran and state == MachineState.STOPPED else B2dError
        raise self._error(f"{self._name} is {state}, before Docker answered; {self.reached()}", kind)

    def _error(self, message: str, kind: type[B2dError] = B2dError) -> B2dError:
        return kind(message, hint=command_for("logs", self._name), details=self.tail())
