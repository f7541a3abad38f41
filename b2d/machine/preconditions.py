"""A machine that must be there for what is asked: both words for one that is not, each with what to type."""

from b2d.errors import MachineAbsent
from b2d.models import MachineSpec, MachineState


def described(spec: MachineSpec | None, name: str) -> MachineSpec:
    """What was read of it. Raises MachineAbsent where that was nothing."""
    if spec is None:
        raise MachineAbsent(f"there is no machine {name}", hint="b2d init")
    return spec


def kept(state: MachineState, name: str) -> MachineState:
    """What its hypervisor says. Raises MachineAbsent where its description is all that is left."""
    if state == MachineState.ABSENT:
        raise MachineAbsent(f"the disk of {name} is gone", hint=f"b2d delete --vm {name}")
    return state
