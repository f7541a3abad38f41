"""Make a template before a machine's first boot: a guest that holds, from whose state machines start."""

from b2d.drivers.base import Driver, StartsFromTemplates
from b2d.errors import B2dError
from b2d.guest.readiness import find_problems, parse_stages
from b2d.host.polling import wait_until
from b2d.models import STARTED_STATES
from b2d.reporting.base import Reporter

INTERVAL_S = 0.02
KINDS = 2  # of templates: for every machine, and for a new one
HELD = "held"  # the stage of a guest that holds
BEFORE = ("kernel", "root", "docker")  # the stages that it may report before


def make_template(driver: Driver, reporter: Reporter, timeout_s: float) -> None:
    """Make the templates of this machine's image and hardware that are missing; a failure only costs time."""
    if not isinstance(driver, StartsFromTemplates):
        return
    try:
        if _begins(driver):
            with reporter.step("making a template for faster starts"):
                for number in range(KINDS):
                    if number and not _begins(driver):
                        break
                    wait_until(
                        lambda: _holds(driver), condition="the template", timeout_s=timeout_s, interval_s=INTERVAL_S
                    )
                    driver.keep_template()
    except B2dError as error:
        driver.give_up_template(error.message)
    except BaseException:
        driver.kill()
        raise


def _begins(driver: StartsFromTemplates) -> bool:
    """Start a guest that will hold, where a template is missing; what prevents every start, the next one reports."""
    try:
        return driver.begin_template()
    except B2dError:
        return False


def _holds(driver: Driver) -> bool:
    """Tell whether the guest holds. Raises B2dError when it will not."""
    console = driver.console()
    stages = [stage.name for stage in parse_stages(console)]
    if stages[-1:] == [HELD]:
        return True
    if not set(stages) <= set(BEFORE) or any(problem.fatal for problem in find_problems(console)):
        raise B2dError("its image does not hold")
    if (state := driver.state()) not in STARTED_STATES:
        raise B2dError(f"the guest that should hold is {state}")
    return False
