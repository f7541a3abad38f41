"""The template that is made before a machine's first boot."""

from typing import cast

import pytest

from b2d.drivers.base import Driver
from b2d.errors import B2dError
from b2d.machine.template import make_template
from b2d.models import MachineState
from tests.support.fakes import FakeReporter

WAIT_S = 5.0


class HoldingDriver:
    """A driver whose guest writes one line each time the console is read, for as many templates as are missing."""

    def __init__(self, *lines: str, missing: int = 1, state: MachineState = MachineState.STARTING) -> None:
        self.calls: list[str] = []
        self._lines = list(lines)
        self._shown: list[str] = []
        self._missing = missing
        self._state = state

    def begin_template(self) -> bool:
        self.calls.append("begin")
        self._shown.clear()
        self._missing -= 1
        return self._missing >= 0

    def keep_template(self) -> None:
        self.calls.append("keep")

    def give_up_template(self, reason: str) -> None:
        self.calls.append(f"give up: {reason}")

    def kill(self) -> None:
        self.calls.append("kill")

    def state(self) -> MachineState:
        return self._state

    def console(self) -> str:
        self._shown += self._lines[:1]
        del self._lines[:1]
        return "".join(f"{line}\n" for line in self._shown)


def make(driver: HoldingDriver, timeout_s: float = WAIT_S) -> list[str]:
    make_template(cast(Driver, driver), FakeReporter(), timeout_s)
    return driver.calls


def test_the_state_is_stored_when_the_guest_holds() -> None:
    assert make(HoldingDriver("", "b2d: 1.5 kernel", "b2d: 1.8 root", "b2d: 5.6 held")) == ["begin", "keep", "begin"]


def test_a_second_guest_holds_with_docker_running() -> None:
    driver = HoldingDriver("b2d: 1.5 kernel", "b2d: 5.6 held", "", "b2d: 7.1 docker", "b2d: 9.0 held", missing=2)
    assert make(driver) == ["begin", "keep"] * 2


def test_templates_in_place_of_each_other_are_made_once() -> None:
    assert make(HoldingDriver("b2d: 5.6 held", "b2d: 9.0 held", "b2d: 5.6 held", missing=9)) == ["begin", "keep"] * 2


def test_nothing_happens_where_there_is_a_template() -> None:
    assert make(HoldingDriver(missing=0)) == ["begin"]


def test_nothing_happens_with_a_driver_without_templates() -> None:
    reporter = FakeReporter()
    make_template(cast(Driver, object()), reporter, WAIT_S)
    assert reporter.messages == []


@pytest.mark.parametrize("line", ["b2d: 2.5 disk", "b2d: 2.5 ready", "b2d: fail no disk or CD contains the root"])
def test_an_image_that_does_not_hold_is_given_up_at_once(line: str) -> None:
    driver = HoldingDriver("b2d: 1.5 kernel", line)
    assert make(driver) == ["begin", "give up: its image does not hold"]


def test_a_guest_that_ends_is_given_up() -> None:
    driver = HoldingDriver("b2d: 1.5 kernel", state=MachineState.CRASHED)
    assert make(driver) == ["begin", "give up: the guest that should hold is crashed"]


def test_a_silent_guest_is_given_up_in_time() -> None:
    (_, reason) = make(HoldingDriver(), timeout_s=0.05)
    assert reason.startswith("give up: ")


def test_an_interrupt_leaves_no_guest_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = HoldingDriver()

    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "console", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(driver)
    assert driver.calls == ["begin", "kill"]


def test_a_guest_that_cannot_be_started_is_left_to_the_start_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = HoldingDriver()

    def fail() -> bool:
        raise B2dError("port 2376 is used by another program")

    monkeypatch.setattr(driver, "begin_template", fail)
    assert make(driver) == []


def test_a_state_that_cannot_be_stored_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = HoldingDriver("b2d: 5.6 held")

    def fail() -> None:
        raise B2dError("the disk is full")

    monkeypatch.setattr(driver, "keep_template", fail)
    assert make(driver) == ["begin", "give up: the disk is full"]
