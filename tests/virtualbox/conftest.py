"""Tests that need a real VirtualBox run where it is installed; elsewhere one test runs all of them in a lab."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.virtualbox_case import USABLE, VirtualBoxCase

HERE = [path.name for path in Path(__file__).parent.glob("test_*.py")]
collect_ignore = ["test_in_lab.py"] if USABLE else [name for name in HERE if name != "test_in_lab.py"]


@pytest.fixture
def case(own_virtualbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualBoxCase]:
    """Yield a case for one machine."""
    with monkeypatch.context() as patches:
        new_case = VirtualBoxCase(own_virtualbox, tmp_path / "machine", patches)
        yield new_case
    new_case.driver().delete()


@pytest.fixture
def machine(case: VirtualBoxCase) -> VirtualBoxCase:
    """Return a machine that has been created."""
    case.driver().create(b"payload")
    return case
