"""b2d on VirtualBox compared with VBoxManage: `pytest -s -m virtualbox tests/virtualbox/bench.py`, in the lab.

Not collected by a plain `pytest`: it only measures. docs/virtualbox.md has its output.
"""

import os
import sys
from pathlib import Path

import pytest

from b2d.paths import Home
from tests.bench import report
from tests.bench.rounds import Figure, seconds, table
from tests.e2e.conftest import B2D
from tests.virtualbox.saved_machine import saved_person

ROUNDS, QUESTIONS = 3, 30
CLIENT = "VBoxManage showvminfo --machinereadable"


@pytest.mark.virtualbox
@pytest.mark.timeout(5000)
def test_how_long_it_takes(iso: Path, image_home: Home) -> None:
    figures = table(
        Figure(CLIENT),
        Figure("b2d status", CLIENT, 1.3),
        Figure("b2d up, from saved", limit=10.0),
        Figure("b2d save"),
        Figure("b2d ssh true"),
    )
    with saved_person(iso, image_home) as person:
        for number in range(QUESTIONS + 2):
            client = ["VBoxManage", "showvminfo", "boot2docker-vm", "--machinereadable"]
            taken = seconds(client, person.environment), seconds([str(B2D), "status"], person.environment, 4)
            if number >= 2:  # the first ones start VirtualBox's service and fill the caches
                figures.add(CLIENT, taken[0])
                figures.add("b2d status", taken[1])
        for _ in range(ROUNDS):
            figures.add("b2d up, from saved", seconds([str(B2D), "up"], person.environment))
            figures.add("b2d ssh true", seconds([str(B2D), "ssh", "true"], person.environment))
            figures.add("b2d save", seconds([str(B2D), "save"], person.environment))
    sys.stdout.write(f"{os.linesep}{report.markdown(figures)}")
