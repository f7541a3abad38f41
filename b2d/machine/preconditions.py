"""Require that a machine exists: the errors for one that does not, each with a command as its hint."""

from b2d.errors import MachineNotFoundError
from b2d.machine_names import command_for
from b2d.models import MachineSpec, MachineState


def require_spec(spec: MachineSpec | None, name: str) -> MachineSpec:
    """Return the spec that was read. Raises MachineNotFoundError where there was none."""
    if spec is None:
        raise MachineNotFoundError(f"there is no machine {name}", hint=command_for("init", name))
    return spec


def require_disk(state: MachineState, name: str) -> MachineState:
    """Return the state. Raises MachineNotFoundError where only the machine's spec is left."""
    if state == MachineState.ABSENT:
        raise MachineNotFoundError(f"the disk of {name} is missing", hint=command_for("delete", name))
    return state
