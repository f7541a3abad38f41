"""The agent's report of the addresses that it could not serve, for commands that print the machine's addresses."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from b2d.formats import json_text
from b2d.host.files import read_bounded, write_atomic
from b2d.host.process_identity import from_json
from b2d.models import ProcessIdentity

SSH, DOCKER, DOCKER_SOCKET = "SSH", "Docker without TLS", "Docker's socket"
KEYS = {"service", "place", "reason"}


class Refusal(NamedTuple):
    """An address on this host that should lead into the machine and does not, because another program has it."""

    service: str
    place: str  # ADDRESS:PORT, or a socket's path
    reason: str

    def sentence(self, machine: str) -> str:
        """Return a message about it."""
        return f"{self.service} of {machine} is not available at {self.place}: {self.reason}"


def write(path: Path, agent: ProcessIdentity, refusals: Sequence[Refusal]) -> None:
    """Write the report that `agent` serves all addresses but `refusals`. Raises OSError."""
    document = {"agent": agent._asdict(), "refusals": [refusal._asdict() for refusal in refusals]}
    write_atomic(path, json.dumps(document).encode("utf-8", "surrogateescape"))


def read(path: Path, agent: ProcessIdentity) -> tuple[Refusal, ...] | None:
    """Return the refusals that the agent reported; None when it has not reported yet."""
    try:
        document = json_text.parse(read_bounded(path))
        if from_json(document["agent"]) != agent:
            return None
        return tuple(_parse_refusal(entry) for entry in document["refusals"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _parse_refusal(entry: object) -> Refusal:
    if not isinstance(entry, dict) or entry.keys() != KEYS or not all(isinstance(text, str) for text in entry.values()):
        raise ValueError("not a refusal")
    return Refusal(**entry)
