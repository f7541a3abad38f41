"""The hypervisors of the contract suite: one machine each, and events from outside."""

import os
import signal
from pathlib import Path
from typing import Protocol

import pytest

from b2d.drivers.base import Driver
from b2d.drivers.qemu.driver import QemuDriver, QemuSettings
from b2d.drivers.qemu.qmp import Qmp
from b2d.errors import HypervisorError
from b2d.host.polling import wait_until
from b2d.host.process_identity import is_alive
from b2d.models import Image, MachineSpec, ProcessIdentity
from b2d.paths import MachinePaths
from tests.support import tiny_guest
from tests.support.fakes import FakeDriver, FakeHypervisor


class Case(Protocol):
    """A hypervisor with one machine, and events from outside."""

    spec: MachineSpec

    def driver(self) -> Driver:
        """Return a new driver of the machine each time: no state may live in the driver itself."""

    def boot(self) -> None:
        """Start the machine, and return when the guest handles its power button."""

    def crash(self) -> None:
        """End the hypervisor's process, as the kernel does when memory is short."""

    def pause(self) -> None:
        """Pause the guest, as a user of the hypervisor's own tools does."""

    def hang(self) -> None:
        """Let the hypervisor's process live without answering."""

    def uninstall(self) -> None:
        """Make the hypervisor unavailable."""


class FakeCase:
    def __init__(self) -> None:
        self.spec = tiny_guest.spec()
        self.hypervisor = FakeHypervisor(script=[*(f"tiny: count {number}" for number in range(3)), "last line"])

    def driver(self) -> FakeDriver:
        return FakeDriver(self.spec, self.hypervisor)

    def boot(self) -> None:
        driver = self.driver()
        driver.start()
        wait_until(lambda: "last line" in driver.console(), condition="the guest", timeout_s=tiny_guest.BOOT_TIMEOUT_S)

    def crash(self) -> None:
        self.driver().crash()

    def pause(self) -> None:
        self.driver().pause()

    def hang(self) -> None:
        self.hypervisor.hang = True

    def uninstall(self) -> None:
        self.hypervisor.unusable = HypervisorError("the fake hypervisor is not installed", hint="install it")


class QemuCase:
    def __init__(self, image: Image, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.image = image
        self.paths = MachinePaths(folder)
        self.paths.folder.mkdir(mode=0o700)
        self.paths.seed.write_bytes(bytes(2048))
        self.spec = tiny_guest.spec()
        self._monkeypatch = monkeypatch

    def driver(self) -> QemuDriver:
        return QemuDriver(self.spec, self.paths, lambda: self.image, QemuSettings("tcg"))

    def boot(self) -> None:
        driver = self.driver()
        driver.start()
        wait_until(
            lambda: tiny_guest.counts(driver.console()) != [],
            condition="the guest",
            timeout_s=tiny_guest.BOOT_TIMEOUT_S,
        )

    def crash(self) -> None:
        process = self.process()
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(process), condition="QEMU's death", timeout_s=10)

    def pause(self) -> None:
        with Qmp(self.paths.qmp_socket) as qmp:
            qmp.execute("stop")

    def hang(self) -> None:
        os.kill(self.process().pid, signal.SIGSTOP)

    def uninstall(self) -> None:
        self._monkeypatch.setenv("PATH", "/nonexistent")

    def process(self) -> ProcessIdentity:
        process = self.driver().process()
        assert process is not None
        return process
