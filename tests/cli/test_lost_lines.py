"""Lost console lines: the login prompt drops output that the serial port has not sent yet."""

from b2d.guest.readiness import Ping
from b2d.machine.boot_monitor import Attempts, await_docker
from tests.support.fakes import FakeDriver, FakeHypervisor, FakeReporter, a_spec


def test_docker_is_pinged_although_its_console_line_was_lost() -> None:
    driver = FakeDriver(a_spec(), FakeHypervisor(script=["b2d: 2.0 kernel", "b2d: 3.0 disk", "b2d: 20.0 ready"]))
    driver.create(b"")
    driver.start()
    answer = Ping("1.45", None)
    assert await_docker("box", driver, Attempts(lambda timeout_s: answer), FakeReporter(), 2) == answer
