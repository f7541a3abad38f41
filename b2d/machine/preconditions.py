"""A machine that must be there for what is asked: both words for one that is not, each with what to type."""

from b2d.errors import MachineNotFoundError
from b2d.models import MachineSpec, MachineState


def require_spec(spec: MachineSpec | None, name: str) -> MachineSpec:
    """What was read of it. Raises MachineNotFoundError where that was nothing."""
    if spec is None:
        raise MachineNotFoundError(f"there is no machine {name}", hint="b2d init")
    return spec


def require_disk(state: MachineState, name: str) -> MachineState:
    """What its hypervisor says. Raises MachineNotFoundError where its description is all that is left."""
    if state == MachineState.ABSENT:
        raise MachineNotFoundError(f"the disk of {name} is gone", hint=f"b2d delete --vm {name}")
    return state
