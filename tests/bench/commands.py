"""The time to start b2d, compared with that of Python itself in the same environment."""

import os
import sys
import sysconfig
from pathlib import Path

from b2d.host.process_identity import identify
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import DockerEnv
from b2d.paths import Home
from tests.bench.rounds import Figure, Table, plain_environment, seconds, table
from tests.support.fakes import a_spec

B2D = str(Path(sysconfig.get_path("scripts")) / "b2d")
FLOOR = "python -c pass"
# verb, limit of the ratio, and exit code with the simulated machine
VERBS = (
    ("shellinit", 1.3, 0),
    ("ip", 1.3, 0),
    ("version", 5.0, 0),
    ("config", 5.0, 0),
    ("list", 8.0, 0),
    ("status", 4.5, 4),
    ("run true", 8.0, 4),
    ("ssh-config", 8.0, 4),
    ("completion bash -- up --me", 8.0, 0),
)
# imports of a Python program, with the limit of the ratio
PROGRAMS = (("import b2d", 1.3), ("from b2d import Machine", 6.0))


def measure(folder: Path, rounds: int) -> Table:
    """Measure each verb and each import. The running machine is simulated: its process is this one."""
    home = Home(folder)
    store = MachineStore(home)
    store.write(a_spec())
    home.machine(a_spec().name).disk_qcow2.touch()
    docker = DockerEnv("tcp://127.0.59.103:2376", "/certs")
    store.write_env(a_spec().name, RunningFacts("127.0.59.103", 2022, 2376, docker, identify(os.getpid())))
    figures = table(Figure(FLOOR), *(Figure(f"b2d {verb}", FLOOR, limit) for verb, limit, _ in VERBS))
    figures.rows |= table(*(Figure(f"python -c '{code}'", FLOOR, limit) for code, limit in PROGRAMS)).rows
    environment = plain_environment(B2D_HOME=str(folder))
    for number in range(rounds + 2):
        for name, command, code in (
            (FLOOR, [sys.executable, "-c", "pass"], 0),
            *((f"b2d {verb}", [B2D, *verb.split()], code) for verb, _, code in VERBS),
            *((f"python -c '{code}'", [sys.executable, "-c", code], 0) for code, _ in PROGRAMS),
        ):
            taken = seconds(command, environment, code)
            if number >= 2:  # the first rounds only fill the caches
                figures.add(name, taken)
    return figures
