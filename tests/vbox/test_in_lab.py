"""What needs a real VirtualBox, run in the lab, which is made where it is missing.

All but test_main_job.py: there it takes half an hour, and is started by hand (docs/virtualbox.md).
"""

import os
import subprocess

import pytest

from tests.vbox import lab

FILES = ["tests/test_driver_contract.py", "tests/vbox/test_virtualbox.py", "tests/vbox/test_virtualbox_trouble.py"]
MAKE_TIMEOUT_S, FILE_TIMEOUT_S = 900, 1800


@pytest.fixture(scope="module")
def made_lab() -> lab.Lab:
    made = lab.Lab(lab.DEFAULT)
    made.create()
    return made


@pytest.mark.virtualbox
@pytest.mark.timeout(MAKE_TIMEOUT_S + FILE_TIMEOUT_S)
@pytest.mark.parametrize("file", FILES)
def test_what_needs_a_real_virtualbox_passes_there(made_lab: lab.Lab, file: str) -> None:
    passes(made_lab, file)


def passes(where: lab.Lab, file: str) -> None:
    command = ["python", "-m", "pytest", "-q", "-m", "virtualbox", "-p", "no:cacheprovider", "-W", "ignore", file]
    done = subprocess.run(
        where.command(command),
        env=lab.ENVIRONMENT | {"TERM": os.environ.get("TERM", "dumb")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
