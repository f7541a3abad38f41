"""Two halves of the tests that may run beside each other (`pytest -n 2`): neither sees what the other makes."""

from pathlib import Path

# VirtualBox's lab has a network of its own; the others' machines get another address, one machine a time
BESIDE = {
    "test_in_lab.py",
    "test_killed.py",
    "test_signals.py",
    "test_import.py",
    "test_exchange.py",
    "test_upgrade.py",
    "test_networks.py",
}
ADDRESS = "127.0.60.103"


def is_beside(file: Path) -> bool:
    """Whether the tests of that file are in the smaller half."""
    return file.name in BESIDE
