"""A machine of b2d compared with the yardstick, in turn, under the same QEMU settings."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from b2d.drivers.qemu import accelerator
from b2d.guest import tls_certificates
from b2d.paths import Home, MachinePaths
from tests.bench.commands import B2D
from tests.bench.rounds import Figure, Table, plain_environment, seconds, table
from tests.bench.yardstick import Yardstick

MEMORY_MIB = 1024
YARDSTICK, YARDSTICK_STOP = "yardstick, from stopped", "yardstick, power off"
FIRST, NEW = "b2d up, first boot with formatting", "b2d up, new machine, from a template"
COLD, BOOT, RESUMED = "b2d up, from stopped", "b2d up, from stopped, without templates", "b2d up, from saved"
TOLD = "b2d up, from stopped, with proxies and the like"
SAVE, STOP, USED = "b2d save", "b2d stop", "memory used when idle"


def measure(cache: Path, home: Home, rounds: int) -> Table:
    """Measure each way to start and to stop. `home` has an image already; the yardstick needs root."""
    yardstick = Yardstick(cache / "yardstick")
    identity = MachinePaths(cache / "yardstick-identity")
    tls_certificates.ensure_certificates(identity, ["127.0.0.1"], datetime.now(UTC))
    yardstick.build(identity)
    chosen = accelerator.choose("auto")
    hardware = ["-machine", "pc", "-accel", chosen.name, "-cpu", chosen.cpu, "-m", f"{MEMORY_MIB}M", "-smp", "1"]
    hardware += ["-rtc", "base=utc,clock=host", "-device", "virtio-rng-pci"]
    figures = table(
        Figure(YARDSTICK),
        Figure(YARDSTICK_STOP),
        Figure(FIRST, YARDSTICK, 0.40),
        Figure(NEW, YARDSTICK, 0.2),
        Figure(BOOT, YARDSTICK, 0.28),
        Figure(COLD, YARDSTICK, 0.15),
        Figure(TOLD, COLD, 1.1),
        Figure(RESUMED, YARDSTICK, 0.05),
        Figure(SAVE),
        Figure(STOP, limit=2.0),
        Figure(USED, limit=125, unit="MiB"),
    )
    yardstick.up(hardware, identity.certs)  # its first boot creates what later ones find
    yardstick.stop()
    for _ in range(rounds):
        figures.add(YARDSTICK, yardstick.up(hardware, identity.certs))
        figures.add(YARDSTICK_STOP, yardstick.stop())
        _one_life(home, figures, identity.certs / "ca.pem")
    return figures


def _one_life(home: Home, figures: Table, authority: Path) -> None:
    """Measure a machine from creation to deletion; `authority` is a CA that it is to trust."""
    environment = plain_environment(
        B2D_HOME=str(home.root), B2D_RESTRICT="1", B2D_MEMORY=str(MEMORY_MIB), B2D_CPUS="1", B2D_VM="bench"
    )

    def run_timed(*verb: str) -> float:
        return seconds([B2D, *verb], environment)

    try:
        shutil.rmtree(home.templates, ignore_errors=True)
        run_timed("init")
        figures.add(FIRST, run_timed("up"))
        run_timed("delete", "--yes")
        run_timed("init")
        figures.add(NEW, run_timed("up"))
        run_timed("stop")
        figures.add(BOOT, seconds([B2D, "up"], environment | {"B2D_TEMPLATES": "0"}))
        run_timed("stop")
        figures.add(COLD, run_timed("up"))
        figures.add(USED, _used_mib(environment))
        figures.add(SAVE, run_timed("save"))
        figures.add(RESUMED, run_timed("up"))
        figures.add(STOP, run_timed("stop"))
        proxies = ("--http-proxy=http://me:p@ss@proxy:3128", "--https-proxy=proxy:3128", f"--ca={authority}")
        figures.add(TOLD, run_timed("up", *proxies, "--registry-mirrors=https://mirror.test", "--dns=192.0.2.7"))
    finally:
        run_timed("delete", "--yes")


def _used_mib(environment: dict[str, str]) -> float:
    """Return the used memory of the guest in MiB, as `free` reports it."""
    import subprocess

    completed = subprocess.run([B2D, "ssh", "free", "-m"], env=environment, capture_output=True, check=True, text=True)
    return float(completed.stdout.splitlines()[1].split()[2])


def host() -> str:
    """Return a line that describes the host of the measurement."""
    import platform
    import subprocess

    import psutil

    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=True, text=True).stdout
    memory = psutil.virtual_memory().total / 2**30
    chosen = accelerator.choose("auto")
    return (
        f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {os.cpu_count()} CPUs, {memory:.0f} GiB, "
        f"{qemu.splitlines()[0]}, {chosen.name}, Python {platform.python_version()}"
    )
