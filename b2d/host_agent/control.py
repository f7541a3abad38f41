"""Control of a machine's agent: a small process beside it that outlives the command that starts it."""

import json
import os
import signal
import sys
from contextlib import suppress
from typing import NamedTuple

from b2d._version import __version__
from b2d.errors import B2dError, WaitTimeoutError
from b2d.formats import json_text
from b2d.host import fd_limits
from b2d.host.files import check_owner, read_bounded, write_atomic
from b2d.host.polling import wait_until
from b2d.host.process_identity import from_json, identify, is_alive
from b2d.host_agent import report
from b2d.host_agent.report import Refusal
from b2d.machine_store.store import MachineStore
from b2d.models import ProcessIdentity
from b2d.paths import Home, MachinePaths

AGENT_MODULE = "b2d.app.agent_process"
PROGRAM = f"{AGENT_MODULE} {__version__}"
READY_S = 10.0  # for the agent to start, after its predecessor has ended
END_S = 3.0


class AgentRecord(NamedTuple):
    """The record of a started agent: its process, its machine's process, and the program that it runs."""

    agent: ProcessIdentity
    machine: ProcessIdentity
    program: str


def ensure_running(store: MachineStore, name: str) -> None:
    """Start the agent of a running machine that has none. A failure to start is no error for the caller."""
    facts = store.read_env(name)
    if facts is None or facts.process is None or not is_alive(facts.process):
        return
    paths = store.home.machine(name)
    if not _serves(paths, facts.process):
        stop(paths)  # it serves another process, or was started by another b2d, whose modules may be gone
        with suppress(B2dError, OSError):  # the folder may be read-only, for example
            check_owner(store.home.root)
            _start(store.home, name, facts.process)


def wait_until_serving(store: MachineStore, name: str) -> tuple[Refusal, ...] | None:
    """Start the agent if needed, and wait until it serves: clients may connect as soon as `up` returns.

    Return the addresses that it could not serve; None when it has not reported, because it ended or cannot be started.
    """
    ensure_running(store, name)
    facts, paths = store.read_env(name), store.home.machine(name)
    process = facts.process if facts is not None else None
    if process is None:
        return None

    def is_settled() -> bool:
        return refusals(paths) is not None or not _serves(paths, process)

    with suppress(WaitTimeoutError):
        wait_until(is_settled, condition="the machine's agent", timeout_s=READY_S, interval_s=0.01)
    return refusals(paths)


def refusals(paths: MachinePaths) -> tuple[Refusal, ...] | None:
    """Return the addresses that the machine's agent could not serve.

    None when none runs, or it has not reported yet.
    """
    recorded = _read_record(paths)
    return (
        report.read(paths.agent_report, recorded.agent) if recorded is not None and is_alive(recorded.agent) else None
    )


def stop(paths: MachinePaths) -> None:
    """End the agent before its machine stops or is saved.

    At its own end dockerd waits five seconds for the listeners to its events; after a save it would do so for an agent
    that is long gone.
    """
    recorded = _read_record(paths)
    if recorded is None or not is_alive(agent := recorded.agent):
        return
    with suppress(OSError, WaitTimeoutError):
        os.kill(agent.pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(agent), condition="the agent's end", timeout_s=END_S, interval_s=0.01)


def _start(home: Home, name: str, machine: ProcessIdentity) -> None:
    from b2d.host import processes  # slow to import, and mostly not needed

    paths = home.machine(name)
    environment = dict(os.environ) | {"B2D_HOME": str(home.root)}
    pid = processes.spawn_detached([sys.executable, "-P", "-m", AGENT_MODULE, name], paths.agent_log, environment)
    fd_limits.raise_limit(pid)
    agent = identify(pid)
    if agent is not None:
        document = {"companion": agent._asdict(), "machine": machine._asdict(), "program": PROGRAM}
        write_atomic(paths.agent_process, json.dumps(document).encode())


def _serves(paths: MachinePaths, machine: ProcessIdentity) -> bool:
    recorded = _read_record(paths)
    if recorded is None or (recorded.machine, recorded.program) != (machine, PROGRAM):
        return False
    return is_alive(recorded.agent)


def _read_record(paths: MachinePaths) -> AgentRecord | None:
    """Return the last recorded agent, None when there is no readable record."""
    try:
        document = json_text.parse(read_bounded(paths.agent_process))
        agent, machine = (from_json(document[key]) for key in ("companion", "machine"))
        return AgentRecord(agent, machine, str(document.get("program")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
