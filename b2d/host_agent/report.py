"""What a machine's agent could not listen on, written down by itself for whoever asks where the machine is reached."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from b2d.formats import json_text
from b2d.host.files import read_bounded, write_atomic
from b2d.host.process_identity import from_json
from b2d.models import ProcessIdentity

SSH, DOCKER, DOCKER_SOCKET = "SSH", "Docker without TLS", "Docker's socket"
KEYS = {"service", "place", "reason"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A place of this host that was to lead into the machine and does not: what is there is somebody else's."""

    service: str
    place: str  # ADDRESS:PORT, or a socket's path
    reason: str

    def sentence(self, machine: str) -> str:
        """It for a person."""
        return f"{self.service} of {machine} is not at {self.place}: {self.reason}"


def write(path: Path, agent: ProcessIdentity, refusals: Sequence[Refusal]) -> None:
    """Tell that `agent` serves all but `refusals`. Raises OSError."""
    document = {"agent": asdict(agent), "refusals": [asdict(one) for one in refusals]}
    write_atomic(path, json.dumps(document).encode("utf-8", "surrogateescape"))


def read(path: Path, agent: ProcessIdentity) -> tuple[Refusal, ...] | None:
    """Return what that agent was refused; None where it has not told yet."""
    try:
        kept = json_text.parse(read_bounded(path))
        if from_json(kept["agent"]) != agent:
            return None
        return tuple(_refusal(one) for one in kept["refusals"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refusal(kept: object) -> Refusal:
    if not isinstance(kept, dict) or kept.keys() != KEYS or not all(isinstance(text, str) for text in kept.values()):
        raise ValueError("it is no refusal")
    return Refusal(**kept)
