"""The verb status as it is mostly typed: without click, which would make it a third slower."""

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
    """What it prints of the machine of that name, "" for the one that the settings name, and its exit code."""
    install_handlers()
    reporter = terminal.choose_reporter(sys.stderr, False, os.environ)
    it = wiring.make_app(os.environ, {"vm": name or None}, reporter)
    state = it.machine().state()
    print_state(it, state)
    return f"{state}\n", exit_code(state)


def print_state(it: wiring.App, state: MachineState) -> None:
    """Say what does not lead into a machine that runs, since its agent was refused that."""
    name = it.settings.vm
    refused = control.refusals(it.home.machine(name)) if state in STARTED_STATES else ()
    for one in refused or ():
        it.reporter.warn(f"{one.sentence(name)}; try: {command_for('restart', name)}")


def exit_code(state: MachineState) -> int:
    """Whether the machine runs, and if not, whether there is one."""
    return CODES.get(state, InvalidStateError.exit_code)
