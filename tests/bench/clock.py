"""The difference between the guest's clock and the host's after the guest has slept, read over SSH."""

import time

from b2d import Machine
from b2d.drivers.qemu.qmp import Qmp
from b2d.paths import Home
from tests.bench.rounds import Figure, Table, table

SLEPT_S, AFTER_S = 10, 5
AWAKE, RESUMED = f"the clock, {AFTER_S} s after {SLEPT_S} s of sleep", f"the clock, saved for {SLEPT_S} s, when up ends"


def measure(home: Home, rounds: int) -> Table:
    """Measure each row in turn, on one machine. `home` has an image already."""
    figures = table(Figure(AWAKE, limit=1.0), Figure(RESUMED, limit=1.0))
    machine = Machine("bench-clock", home=home.root, memory=1024, restrict=True)
    with machine.temporary():
        for _ in range(rounds):
            with Qmp(home.machine(machine.name).qmp_socket) as qmp:  # simulates a sleep of the host
                qmp.execute("stop")
                time.sleep(SLEPT_S)
                qmp.execute("cont")
            time.sleep(AFTER_S)
            figures.add(AWAKE, _clock_offset_s(machine))
            machine.save()
            time.sleep(SLEPT_S)
            machine.up()
            figures.add(RESUMED, _clock_offset_s(machine))
    return figures


def _clock_offset_s(machine: Machine) -> float:
    begin = time.time()
    inside = float(machine.ssh("echo $EPOCHREALTIME").stdout)
    return abs(inside - (begin + time.time()) / 2)
