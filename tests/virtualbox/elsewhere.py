"""Helpers for separate processes of tests that end VirtualBox's service, which breaks the connection."""

import os
from pathlib import Path

import psutil

from b2d.drivers.virtualbox.driver import VirtualBoxDriver
from b2d.models import Image
from b2d.paths import MachinePaths
from tests.support.fakes import a_spec


def driver(folder: Path) -> VirtualBoxDriver:
    """Return the driver of a machine that is never started."""
    paths = MachinePaths(folder / "machine")
    paths.folder.mkdir(exist_ok=True)

    def image() -> Image:
        raise AssertionError("it is not to be started")

    return VirtualBoxDriver(a_spec(driver="virtualbox"), paths, image)


def service() -> int:
    """Return the pid of this process's VirtualBox service: of several, the one with the same socket."""
    own = os.environ["VBOX_IPC_SOCKETID"]
    for process in psutil.process_iter():
        if process.name() == "VBoxSVC" and process.environ().get("VBOX_IPC_SOCKETID") == own:
            return process.pid
    raise AssertionError("no service runs")
