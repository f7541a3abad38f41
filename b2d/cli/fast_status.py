"""The verb status in its usual form, without click, whose import would make it a third slower."""

import os
import sys

from b2d.app import wiring
from b2d.errors import InvalidStateError, MachineNotFoundError
from b2d.host.signals import install_handlers
from b2d.host_agent import control
from b2d.machine_names import command_for
from b2d.models import STARTED_STATES, MachineState
from b2d.reporting import terminal

CODES = {MachineState.RUNNING: 0, MachineState.ABSENT: MachineNotFoundError.exit_code}


def answer_status(name: str) -> tuple[str, int]:
    """Return the output and the exit code of `status` for a machine; "" is the machine that the settings name."""
    install_handlers()
    reporter = terminal.choose_reporter(sys.stderr, False, os.environ)
    app = wiring.make_app(os.environ, {"vm": name or None}, reporter)
    state = app.machine().state()
    warn_refusals(app, state)
    return f"{state}\n", exit_code(state)


def warn_refusals(app: wiring.App, state: MachineState) -> None:
    """Warn of the ports and sockets of a started machine that its agent could not open."""
    name = app.settings.vm
    refusals = control.refusals(app.home.machine(name)) if state in STARTED_STATES else ()
    for refusal in refusals or ():
        app.reporter.warn(f"{refusal.sentence(name)}; try: {command_for('restart', name)}")


def exit_code(state: MachineState) -> int:
    """Return the exit code of `status`: whether the machine runs, and if not, whether it exists."""
    return CODES.get(state, InvalidStateError.exit_code)
