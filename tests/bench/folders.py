"""A shared folder compared with the guest's disk: large files, small messages, many small files.

Measured over 9p and virtiofs, each in its own machine, with a QEMU that supports both.
"""

import os
import shlex
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from b2d.drivers.qemu.shared_folders import PLAN9, VIRTIOFS
from b2d.paths import Home
from tests.bench.commands import B2D
from tests.bench.rounds import Figure, Table, plain_environment, seconds, table

MIB, SMALL = 64, 500
WAYS = (PLAN9, VIRTIOFS)
WORK = {
    f"write {MIB} MiB": f"dd if=/dev/zero of=big bs=1M count={MIB} conv=fsync 2>/dev/null",
    f"read {MIB} MiB": "dd if=big of=/dev/null bs=1M 2>/dev/null",
    "write 8 MiB in 4 KiB": "dd if=/dev/zero of=little bs=4k count=2048 conv=fsync 2>/dev/null",
    "read 8 MiB in 4 KiB": "dd if=little of=/dev/null bs=4k 2>/dev/null",
    f"unpack {SMALL} small files": "tar -xf /run/small.tar && sync",
    f"read {SMALL} small files": "tar -cf - small | cat >/dev/null",
    f"list {SMALL} small files": "ls -lR small >/dev/null",
    f"remove {SMALL} small files": "rm -rf small",
}
# Every file is read from its origin, and nothing from the guest's page cache.
TIMED = """cd "$1" || exit
echo 3 >/proc/sys/vm/drop_caches
read -r begin _ </proc/uptime
eval "$2" || exit
read -r end _ </proc/uptime
echo "$begin $end"
"""
SMALL_FILES = f"""mkdir -p /run/work && cd /run/work && mkdir small && i=0
while [ $i -lt {SMALL} ]; do
    folder=small/$((i / 50))
    [ -d $folder ] || mkdir $folder
    echo "some text, and number $i" >$folder/$i
    i=$((i + 1))
done
tar -cf /run/small.tar small && mkdir -p /var/lib/boot2docker/bench
"""
DISK = "/var/lib/boot2docker/bench"


def measure(home: Home, programs: Path, rounds: int) -> Table:
    """Measure three rows for each workload. `home` has an image already; `programs` is the folder of QEMU."""
    rows = []
    for work in WORK:
        rows += [Figure(disk_row_name(work)), *(Figure(row_name(work, way), disk_row_name(work)) for way in WAYS)]
    figures = table(*rows)
    with ExitStack() as machines:
        folder = machines.enter_context(tempfile.TemporaryDirectory(prefix="b2d-bench-"))
        environments = {way: _machine(machines, home, programs, folder, way) for way in WAYS}
        for _ in range(rounds):
            for work, script in WORK.items():
                figures.add(disk_row_name(work), _measure_seconds(environments[PLAN9], DISK, script))
                for way, environment in environments.items():
                    figures.add(row_name(work, way), _measure_seconds(environment, str(Path(folder, way)), script))
    return figures


def _machine(machines: ExitStack, home: Home, programs: Path, folder: str, way: str) -> dict[str, str]:
    """Create a machine that mounts the folder that way, deleted at the end, and return its environment."""
    share = {"B2D_HOME": str(home.root), "B2D_VM": f"bench-{way}", "B2D_SHARE": folder, "B2D_MOUNT_TYPE": way}
    Path(folder, way).mkdir()
    environment = plain_environment(B2D_RESTRICT="1", B2D_CPUS="1", B2D_MEMORY="1024", **share)
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    machines.callback(seconds, [B2D, "delete", "--yes"], environment)
    seconds([B2D, "up"], environment)
    _in_guest(environment, SMALL_FILES)
    return environment


def disk_row_name(work: str) -> str:
    return f"{work}, disk"


def row_name(work: str, way: str) -> str:
    return f"{work}, {way}"


def _measure_seconds(environment: dict[str, str], folder: str, script: str) -> float:
    begin, end = _in_guest(environment, TIMED, folder, script).split()
    return max(float(end) - float(begin), 0.01)  # the clock's resolution


def _in_guest(environment: dict[str, str], script: str, *arguments: str) -> str:
    command = shlex.join(["sudo", "sh", "-c", script, "sh", *arguments])
    completed = subprocess.run([B2D, "ssh", command], env=environment, capture_output=True, check=True, text=True)
    return completed.stdout
