"""A machine's companion: one small process beside it, which outlives the command that starts it and ends with it."""

import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict

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

MODULE = "b2d.app.agent_process"
PROGRAM = f"{MODULE} {__version__}"
READY_S = 10.0  # for it to begin, after the one before it has ended
END_S = 3.0


def ensure_running(store: MachineStore, name: str) -> None:
    """Start it where the machine is up and has none. That it cannot be started keeps nobody from anything else."""
    facts = store.read_env(name)
    if facts is None or facts.process is None or not is_alive(facts.process):
        return
    paths = store.home.machine(name)
    if not _is_there(paths, facts.process):
        stop(paths)  # it serves another process, or another b2d began it, whose modules may be gone
        with suppress(B2dError, OSError):  # nobody may write here, for one
            check_owner(store.home.root)
            _start(store.home, name, facts.process)


def wait_until_serving(store: MachineStore, name: str) -> tuple[Refusal, ...] | None:
    """The same, and wait until it serves: who has been told that the machine is up may use it.

    Return what it was refused; None where it has not told, as one does that ended, or cannot be started.
    """
    ensure_running(store, name)
    facts, paths = store.read_env(name), store.home.machine(name)
    process = facts.process if facts is not None else None
    if process is None:
        return None

    def settled() -> bool:
        return refusals(paths) is not None or not _is_there(paths, process)

    with suppress(WaitTimeoutError):
        wait_until(settled, condition="the machine's agent", timeout_s=READY_S, interval_s=0.01)
    return refusals(paths)


def refusals(paths: MachinePaths) -> tuple[Refusal, ...] | None:
    """Return what the machine's agent was refused; None where none runs, or it has not told yet."""
    there = _recorded(paths)
    return report.read(paths.agent_report, there[0]) if there is not None and is_alive(there[0]) else None


def stop(paths: MachinePaths) -> None:
    """End it before its machine stops or sleeps: dockerd waits five seconds for who listens to its events when it is
    to stop, and one that was saved does so for a companion that is long gone."""
    there = _recorded(paths)
    if there is None or not is_alive(itself := there[0]):
        return
    with suppress(OSError, WaitTimeoutError):
        os.kill(itself.pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(itself), condition="the companion", timeout_s=END_S, interval_s=0.01)


def _start(home: Home, name: str, machine: ProcessIdentity) -> None:
    from b2d.host import processes  # what runs programs is slow to load, and mostly there is nothing to do

    paths = home.machine(name)
    environment = dict(os.environ) | {"B2D_HOME": str(home.root)}
    pid = processes.spawn_detached([sys.executable, "-P", "-m", MODULE, name], paths.agent_log, environment)
    fd_limits.raise_limit(pid)
    itself = identify(pid)
    if itself is not None:
        kept = {"companion": asdict(itself), "machine": asdict(machine), "program": PROGRAM}
        write_atomic(paths.agent_process, json.dumps(kept).encode())


def _is_there(paths: MachinePaths, machine: ProcessIdentity) -> bool:
    there = _recorded(paths)
    return there is not None and there[1:] == (machine, PROGRAM) and is_alive(there[0])


def _recorded(paths: MachinePaths) -> tuple[ProcessIdentity, ProcessIdentity, str] | None:
    """The companion, its machine's process, and the program that it runs, as they were last."""
    try:
        kept = json_text.parse(read_bounded(paths.agent_process))
        return from_json(kept["companion"]), from_json(kept["machine"]), str(kept.get("program"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
