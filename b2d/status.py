"""The verb status as it is mostly typed: without click, which would make it a third slower."""

import os
import sys

from b2d import app, console
from b2d.errors import MachineAbsent, WrongState
from b2d.interrupt import heed
from b2d.model import MachineState

CODES = {MachineState.RUNNING: 0, MachineState.ABSENT: MachineAbsent.exit_code}


def answer(name: str) -> tuple[str, int]:
    """What it prints of the machine of that name, "" for the one that the settings name, and its exit code."""
    heed()
    reporter = console.choose(sys.stderr, False, os.environ)
    state = app.make(os.environ, {"vm": name or None}, reporter).machine().state()
    return f"{state}\n", exit_code(state)


def exit_code(state: MachineState) -> int:
    """Whether the machine runs, and if not, whether there is one."""
    return CODES.get(state, WrongState.exit_code)
