"""The tests that need a real VirtualBox, run in the lab, which is created when missing."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import virtualbox_lab

FILES = [
    "tests/qemu/test_driver_contract.py",
    "tests/virtualbox/test_virtualbox.py",
    "tests/virtualbox/test_reregister.py",
    "tests/virtualbox/test_port_forwards.py",
    "tests/virtualbox/test_disk_import.py",
    "tests/virtualbox/test_snapshots.py",
    "tests/virtualbox/test_trouble.py",
]
WITH_IMAGE = ["tests/virtualbox/test_main_job.py", "tests/virtualbox/test_daily_life.py"]
MAKE_TIMEOUT_S, FILE_TIMEOUT_S, BOOT_TIMEOUT_S = 900, 1800, 5400


@pytest.fixture(scope="module")
def made_lab() -> virtualbox_lab.Lab:
    lab = virtualbox_lab.Lab(virtualbox_lab.DEFAULT)
    lab.create()
    return lab


@pytest.mark.virtualbox
@pytest.mark.timeout(MAKE_TIMEOUT_S + FILE_TIMEOUT_S)
@pytest.mark.parametrize("file", FILES)
def test_tests_that_need_a_real_virtualbox_pass_in_the_lab(made_lab: virtualbox_lab.Lab, file: str) -> None:
    passes(made_lab, file)


@pytest.mark.virtualbox
@pytest.mark.timeout(MAKE_TIMEOUT_S + BOOT_TIMEOUT_S)
@pytest.mark.parametrize("file", WITH_IMAGE)
def test_tests_that_need_the_image_pass_in_the_lab(
    made_lab: virtualbox_lab.Lab, iso: Path, registry: str, test_cache: Path, file: str
) -> None:
    """The lab has no network, so it gets this host's test image and registry."""
    assert iso.exists()
    assert registry.startswith(str(test_cache))
    passes(made_lab, file, test_cache)


def passes(where: virtualbox_lab.Lab, file: str, cache: Path | None = None) -> None:
    command = ["python", "-m", "pytest", "-q", "-m", "virtualbox", "-p", "no:cacheprovider", "-W", "ignore", file]
    environment = {"TERM": os.environ.get("TERM", "dumb"), "B2D_TEST_DAY": os.environ["B2D_TEST_DAY"]}
    if strict := os.environ.get("B2D_TEST_STRICT"):
        environment["B2D_TEST_STRICT"] = strict
    if cache is not None:
        environment["B2D_TEST_CACHE"] = "/var/cache/b2d-tests"
    completed = subprocess.run(
        where.command(command, [(cache, environment["B2D_TEST_CACHE"])] if cache else []),
        env=virtualbox_lab.ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout
