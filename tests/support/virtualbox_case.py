"""VirtualBox in the contract suite, where machines can start: on a host with its driver, or in the lab."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from b2d.drivers.virtualbox.driver import VirtualBoxDriver
from b2d.drivers.virtualbox.installation import SearchPaths
from b2d.formats import iso_writer
from b2d.host.polling import wait_until
from b2d.host.process_identity import is_alive
from b2d.models import HARDWARE, Image, MachineSpec, MachineState, ProcessIdentity
from b2d.network import port_allocation
from b2d.paths import MachinePaths
from tests.support import tiny_guest
from tests.support.fakes import a_spec

HERE = Path(__file__).resolve().parent
IN_LAB = "B2D_TEST_LAB"  # set inside the lab, where machines start without a driver
USABLE = SearchPaths().can_start() or (IN_LAB in os.environ and SearchPaths().installed())
VIRTUALBOX = [pytest.param("virtualbox", marks=pytest.mark.virtualbox)] if USABLE else []
PROGRAMS = "/usr/lib/virtualbox"  # Debian's wrapper of VBoxManage prints complaints on stdout
BOOT_TIMEOUT_S = 60.0


class VirtualBoxCase:
    def __init__(self, iso: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = MachinePaths(folder)
        self.paths.folder.mkdir(mode=0o700)
        self.paths.seed.write_bytes(bytes(2048))
        first = port_allocation.reserve_ports("127.0.59.249", 20000 + os.getpid() % 20000)
        self.spec: MachineSpec = a_spec(
            driver="virtualbox",
            hardware=HARDWARE,
            memory_mib=64,
            address="127.0.59.249",
            ssh_port=first,
            docker_port=port_allocation.reserve_ports("127.0.59.249", first + 1),
        )
        self.image = Image(sha256="0" * 64, iso=iso, source="tiny", version="1", size=iso.stat().st_size)
        self.vboxapi = ""
        self._monkeypatch = monkeypatch

    def driver(self) -> VirtualBoxDriver:
        return VirtualBoxDriver(self.spec, self.paths, lambda: self.image, self.vboxapi)

    def boot(self) -> None:
        driver = self.driver()
        driver.start()
        wait_until(lambda: tiny_guest.counts(driver.console()) != [], condition="the guest", timeout_s=BOOT_TIMEOUT_S)

    def crash(self) -> None:
        process = self.process()
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(process), condition="VirtualBox's death", timeout_s=10)
        wait_until(lambda: self.driver().state() != MachineState.RUNNING, condition="its being seen", timeout_s=10)

    def pause(self) -> None:
        vboxmanage("controlvm", self.spec.name, "pause")

    def hang(self) -> None:
        os.kill(self.process().pid, signal.SIGSTOP)

    def uninstall(self) -> None:
        self._monkeypatch.setattr(self, "vboxapi", "/nonexistent")

    def process(self) -> ProcessIdentity:
        process = self.driver().process()
        assert process is not None
        return process


def vboxmanage(*arguments: str) -> str:
    """Run VBoxManage without b2d, which must succeed, and return its stdout."""
    completed = _manage(*arguments)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def save_by_hand(name: str) -> None:
    """Save a machine with VBoxManage, whose exit code can be wrong (7.2.22): then it does not store the settings."""
    _manage("controlvm", name, "savestate")
    vboxmanage("setextradata", name, "saved", "by hand")


def _manage(*arguments: str) -> "subprocess.CompletedProcess[str]":
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["VBoxManage", *arguments], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def tiny_iso(folder: Path) -> Path:
    """Create a CD in `folder` with the guest of tiny.s, which counts on its serial port."""
    object_file, program, iso = folder / "tiny.o", folder / "tiny.bin", folder / "tiny.iso"
    for command in (
        ["as", "--32", "-o", str(object_file), str(HERE / "tiny.s")],
        ["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", str(program), str(object_file)],
    ):
        subprocess.run(command, check=True)
    iso_writer.write({iso_writer.BOOT_FILE: program.read_bytes()}, "TINY", 0, iso)
    return iso
