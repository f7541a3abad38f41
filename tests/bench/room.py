"""The cost of snapshots, and the disk and memory of this host that are reclaimed."""

import subprocess
import time

import psutil

from b2d.host.polling import wait_until
from b2d.paths import Home
from tests.bench.commands import B2D
from tests.bench.ports import a_machine
from tests.bench.rounds import Figure, Table, plain_environment, seconds, table

MEMORY, DISK = 500, 200  # MiB that a container allocates
CREATE, RESTORE, DELETE = (f"b2d snapshot {verb}" for verb in ("create, of a running machine", "restore", "delete"))
ROSE, FELL = f"memory of QEMU: more with a container of {MEMORY} MiB", "memory of QEMU: less 5 s after its end"
GREW, SHRANK = f"disk file: more with a volume of {DISK} MiB", "disk file: less after its end and b2d disk compact"
BOX = "/usr/bin/busybox"
MIB = 1 << 20


def measure(home: Home, rounds: int) -> Table:
    """Measure each row in turn, on one machine. `home` has an image already."""
    rows = [Figure(name, unit="MiB") for name in (ROSE, FELL, GREW, SHRANK)]
    figures = table(Figure(CREATE), Figure(RESTORE), Figure(DELETE), *rows)
    environment = plain_environment(B2D_HOME=str(home.root), B2D_VM="bench", B2D_RESTRICT="1")
    paths = home.machine("bench")

    def resident() -> float:
        return psutil.Process(int(paths.qemu_pid.read_text())).memory_info().rss / MIB

    def room() -> float:
        return paths.disk_qcow2.stat().st_blocks * 512 / MIB

    with a_machine(home) as (docker, _):
        for _ in range(rounds):
            idle = resident()
            fill = f"{BOX} dd if=/dev/zero of=/big/x bs=1M count={MEMORY} && echo full && exec {BOX} sleep 1000"
            docker("run", "-d", "--name", "big", "--tmpfs", f"/big:size={MEMORY + 50}m", "hello", "sh", "-c", fill)
            wait_until(lambda: "full" in docker("logs", "big"), condition="the container", timeout_s=120)
            most = resident()
            docker("rm", "-f", "big")
            time.sleep(5)
            figures.add(ROSE, most - idle)
            figures.add(FELL, most - resident())
            empty = room()
            fill = f"{BOX} dd if=/dev/urandom of=/data/x bs=1M count={DISK} && sync"
            docker("run", "--rm", "-v", "data:/data", "hello", "sh", "-c", fill)
            full = room()
            docker("volume", "rm", "data")
            subprocess.run([B2D, "disk", "compact"], env=environment, check=True, capture_output=True)
            figures.add(GREW, full - empty)
            figures.add(SHRANK, full - room())
            figures.add(CREATE, seconds([B2D, "snapshot", "create", "one"], environment))
            seconds([B2D, "save"], environment)
            figures.add(RESTORE, seconds([B2D, "snapshot", "restore", "one", "--yes"], environment))
            figures.add(DELETE, seconds([B2D, "snapshot", "delete", "one"], environment))
            seconds([B2D, "up"], environment)
    return figures
