"""The verb status as it is mostly typed: without click, which would make it a third slower."""

import os
import sys

from b2d.app import wiring
from b2d.errors import MachineAbsent, WrongState
from b2d.host.signals import heed
from b2d.host_agent import control
from b2d.machine_names import typed
from b2d.models import COMING_UP, MachineState
from b2d.reporting import terminal

CODES = {MachineState.RUNNING: 0, MachineState.ABSENT: MachineAbsent.exit_code}


def answer(name: str) -> tuple[str, int]:
    """What it prints of the machine of that name, "" for the one that the settings name, and its exit code."""
    heed()
    reporter = terminal.choose(sys.stderr, False, os.environ)
    it = wiring.make(os.environ, {"vm": name or None}, reporter)
    state = it.machine().state()
    tell(it, state)
    return f"{state}\n", exit_code(state)


def tell(it: wiring.App, state: MachineState) -> None:
    """Say what does not lead into a machine that runs, since its agent was refused that."""
    name = it.settings.vm
    refused = control.refusals(it.home.machine(name)) if state in COMING_UP else ()
    for one in refused or ():
        it.reporter.warn(f"{one.sentence(name)}; try: {typed('restart', name)}")


def exit_code(state: MachineState) -> int:
    """Whether the machine runs, and if not, whether there is one."""
    return CODES.get(state, WrongState.exit_code)
