"""How long the quick verbs take, in multiples of `python -c pass` of the same environment.

Run: python -m tests.bench.startup [ROUNDS]. Every row is started in turn, round by round; medians are shown.
"""

import os
import statistics
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from b2d.identity import identify
from b2d.layout import Home
from b2d.model import DockerEnv, MachineSpec
from b2d.store import MachineStore, RunningFacts

WARM_UP = 2
SPEED_OF_THE_CALLER = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH")
LIMITS = {"ip": 1.3, "shellinit": 1.3, "status": 8.0}
ANY_OTHER_VERB = 5.0


def a_home(folder: Path) -> Home:
    """A home with a machine that is stopped for QEMU, while the door sees the process of this script run."""
    home, store = Home(folder), MachineStore(Home(folder))
    spec = MachineSpec("boot2docker-vm", "qemu", "debian", "0" * 64, 512, 1, 256, "127.0.59.103", 2022, 2376)
    store.write(spec)
    home.machine(spec.name).disk_qcow2.write_bytes(b"QFI\xfb")
    docker = DockerEnv("tcp://127.0.59.103:2376", str(home.machine(spec.name).certs))
    store.write_env(spec.name, RunningFacts(spec.address, 2022, 2376, docker, identify(os.getpid())))
    return home


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """One run, its output unseen."""
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    begin = time.perf_counter()
    os.waitpid(os.posix_spawn(command[0], command, environment, file_actions=quiet), 0)
    return time.perf_counter() - begin


def main(rounds: int) -> None:
    """Measure and print."""
    b2d = str(Path(sysconfig.get_path("scripts")) / "b2d")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        clean = {key: value for key, value in os.environ.items() if key not in SPEED_OF_THE_CALLER}
        machine = clean | {"B2D_HOME": str(a_home(Path(one)).root)}
        empty = clean | {"B2D_HOME": other}
        rows = {"python -c pass": ([sys.executable, "-c", "pass"], clean)}
        rows |= {f"b2d {verb}": ([b2d, verb], machine) for verb in ("ip", "shellinit")}
        rows |= {f"b2d {verb}": ([b2d, verb], empty) for verb in ("version", "list", "config", "--help")}
        rows |= {"b2d status (absent)": ([b2d, "status"], empty), "b2d status (stopped)": ([b2d, "status"], machine)}
        taken: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(WARM_UP + rounds):
            for name, (command, environment) in rows.items():
                taken[name].append(seconds(command, environment))
    floor = taken["python -c pass"][WARM_UP:]
    for name, all_of_it in taken.items():
        times = all_of_it[WARM_UP:]
        ratio = statistics.median(mine / its for mine, its in zip(times, floor, strict=True))
        limit = LIMITS.get(name.split()[1], ANY_OTHER_VERB)
        print(f"{name:22} {statistics.median(times) * 1000:7.1f} ms  {ratio:5.2f} x  (asked: {limit} x)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
