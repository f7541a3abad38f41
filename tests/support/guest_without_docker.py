"""The real guest without Docker: it boots as usual, runs the given lines in Docker's place, and powers off.

A boot takes five seconds this way.
"""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from b2d.drivers.qemu import command_line
from b2d.drivers.qemu.accelerator import Accelerator
from b2d.host.polling import wait_until
from b2d.models import Image, MachineSpec
from b2d.paths import MachinePaths
from tests.support import tiny_guest
from tests.support.paths import ROOT

BOOT_TIMEOUT_S = 120.0
BEGIN, END = "report: begin", "report: end"
INITTAB = """::sysinit:/etc/b2d/boot
::once:/bin/sh /etc/report
::shutdown:/etc/b2d/shutdown
"""
DATA_DEVICE = "virtio-blk-pci,drive=data,serial=b2d-data,discard=on"


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine with these raw disks; the first one is b2d's data disk."""

    image: Image
    folder: Path
    spec: MachineSpec
    disks: list[Path]

    def report(self) -> str:
        """Boot the machine, wait until it is off and return the output of the lines."""
        return self._console(lambda process: process.wait(BOOT_TIMEOUT_S)).split(BEGIN)[-1].split(END)[0]

    def console(self) -> str:
        """Return the console output of the last boot."""
        return MachinePaths(self.folder).serial_log.read_text(errors="replace").replace("\r", "")

    def cut_off(self, reached: Callable[[], bool]) -> None:
        """Boot the machine and cut its power as soon as `reached` returns True."""

        def cut(process: "subprocess.Popen[bytes]") -> None:
            wait_until(reached, condition="the moment", timeout_s=BOOT_TIMEOUT_S, interval_s=0.001)
            process.kill()

        self._console(cut)

    def _console(self, until: Callable[["subprocess.Popen[bytes]"], object]) -> str:
        MachinePaths(self.folder).serial_log.write_bytes(b"")
        with subprocess.Popen(self._command(), stdin=subprocess.DEVNULL) as process:
            try:
                until(process)
            finally:
                process.kill()
        return self.console()

    def _command(self) -> list[str]:
        paths = MachinePaths(self.folder)
        if not paths.seed.exists():
            paths.seed.write_bytes(bytes(2048))
        whole = command_line.build_arguments(self.spec, self.image, paths, Accelerator("tcg"), 1)
        command = [command_line.PROGRAM, *whole, "-no-reboot"]
        if not self.disks:
            paths.disk_qcow2.touch()
            command = [argument.replace(DATA_DEVICE, "virtio-rng-pci") for argument in command]
        first = self.disks[0] if self.disks else paths.disk_qcow2
        command = [argument.replace(str(paths.disk_qcow2), str(first)) for argument in command]
        for disk in self.disks[1:]:
            command += ["-drive", f"file={disk},format=raw,if=virtio"]
        return [argument.replace("driver=qcow2", "driver=raw") for argument in command]


def image(whole: Image, folder: Path, lines: str) -> Image:
    """Return an image like `whole` that runs these lines of shell in Docker's place and powers off."""
    stage1 = (ROOT / "iso/stage1/init").read_text()
    handover = "cat /inittab >/root/etc/inittab\ncat /report >/root/etc/report\nexec switch_root"
    assert stage1.count("exec switch_root") == 1
    report = f". /etc/profile\nexec >/dev/ttyS0 2>&1\necho {BEGIN}\n{lines}\necho {END}\nexec poweroff\n"
    initrd = folder / f"dockerless-{time.monotonic_ns()}.initrd"
    files: dict[str, str | None] = {"init": stage1.replace("exec switch_root", handover)}
    initrd.write_bytes(tiny_guest.with_files(whole.initrd or Path(), files | {"inittab": INITTAB, "report": report}))
    return whole._replace(initrd=initrd)
