"""Everything that needs a real VirtualBox, run in the lab, which is made where it is missing."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.vbox import lab

FILES = ["tests/test_driver_contract.py", "tests/vbox/test_virtualbox.py", "tests/vbox/test_virtualbox_trouble.py"]
MAKE_TIMEOUT_S, FILE_TIMEOUT_S = 900, 1800
MAIN_JOB_TIMEOUT_S = 5400  # the image boots for minutes where VirtualBox has to emulate the CPU


@pytest.fixture(scope="module")
def made_lab() -> lab.Lab:
    made = lab.Lab(lab.DEFAULT)
    made.create()
    return made


@pytest.mark.virtualbox
@pytest.mark.timeout(MAKE_TIMEOUT_S + FILE_TIMEOUT_S)
@pytest.mark.parametrize("file", FILES)
def test_what_needs_a_real_virtualbox_passes_there(made_lab: lab.Lab, file: str) -> None:
    passes(made_lab, file, [])


@pytest.mark.virtualbox
@pytest.mark.timeout(MAIN_JOB_TIMEOUT_S)
def test_the_main_job_is_done_there(made_lab: lab.Lab, iso: Path, test_cache: Path) -> None:
    passes(made_lab, "tests/vbox/test_main_job.py", [(test_cache, str(test_cache))], test_cache)


def passes(where: lab.Lab, file: str, binds: list[tuple[Path, str]], cache: Path | None = None) -> None:
    command = ["python", "-m", "pytest", "-q", "-m", "virtualbox", "-p", "no:cacheprovider", "-W", "ignore", file]
    environment = lab.ENVIRONMENT | ({"B2D_TEST_CACHE": str(cache)} if cache else {})
    done = subprocess.run(
        where.command(command, binds),
        env=environment | {"TERM": os.environ.get("TERM", "dumb")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
