"""Answer doctor's questions about the machines of a home."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from b2d.host_agent import control
from b2d.models import ON_STATES, MachineSpec, MachineState

if TYPE_CHECKING:
    from b2d.app.wiring import App
    from b2d.guest.readiness import Ping
    from b2d.host_agent.report import Refusal
    from b2d.machine.exposure import Exposure


@dataclass(frozen=True, slots=True)
class AppProbe:
    """A MachineProbe that asks drivers, Docker and agents."""

    app: "App"

    def state(self, spec: MachineSpec) -> MachineState:
        """Return the machine's state."""
        return self.app.driver(spec).state()

    def ping(self, spec: MachineSpec, timeout_s: float) -> "Ping | None":
        """Ping the machine's Docker; return its answer, or None."""
        return self.app.machine(spec.name).answers(timeout_s)

    def exposures(self, spec: MachineSpec, state: MachineState) -> "Sequence[Exposure]":
        """Return the exposures of the machine as it runs, or of its next boot."""
        booted = state in ON_STATES or state == MachineState.SAVED
        return self.app.machine(spec.name).exposures(booted=booted)

    def refusals(self, name: str) -> "Sequence[Refusal] | None":
        """Return what the machine's agent could not open; None when no agent has reported."""
        return control.refusals(self.app.home.machine(name))
