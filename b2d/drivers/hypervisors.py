"""Differences between hypervisors as data; no driver is loaded."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from b2d.errors import ConfigError
from b2d.host.files import os_errors_as_b2d_errors
from b2d.paths import MachinePaths


class Hypervisor(NamedTuple):
    """A hypervisor that b2d drives."""

    name: str  # in settings and in machine.json
    title: str  # in messages
    disk: Callable[[MachinePaths], Path]  # the machine's data disk
    traces: Callable[[MachinePaths], tuple[Path, ...]]  # its files in a machine's folder, the disk first
    log: Callable[[MachinePaths], Path]  # its own log
    growing_logs: Callable[[MachinePaths], tuple[Path, ...]]  # that can be truncated: it appends
    reaches_loopback_dns: bool  # whether a guest reaches a name server on this host's loopback
    can_restrict: bool  # whether the setting `restrict` takes effect
    clock_stops: bool  # whether the guest's clock stops while this host sleeps
    loads_large_libraries: bool  # programs that query it regularly do so in a process of their own


QEMU = Hypervisor(
    "qemu",
    "QEMU",
    disk=lambda paths: paths.disk_qcow2,
    traces=lambda paths: (paths.disk_qcow2, paths.qemu_pid, paths.qemu_record),
    log=lambda paths: paths.qemu_log,
    growing_logs=lambda paths: (paths.serial_log, paths.qemu_log, paths.virtiofsd_log),
    reaches_loopback_dns=True,
    can_restrict=True,
    clock_stops=False,  # the guest has a clock chip that keeps running
    loads_large_libraries=False,
)
VIRTUALBOX = Hypervisor(
    "virtualbox",
    "VirtualBox",
    disk=lambda paths: paths.disk_vdi,
    traces=lambda paths: (paths.disk_vdi, paths.virtualbox),
    log=lambda paths: paths.virtualbox_log,
    growing_logs=lambda _: (),  # its process does not append
    reaches_loopback_dns=False,  # seen on 7.2, for port 53 only
    can_restrict=False,
    clock_stops=True,
    loads_large_libraries=True,
)
ALL = {hypervisor.name: hypervisor for hypervisor in (QEMU, VIRTUALBOX)}


def get(name: str) -> Hypervisor:
    """Return the hypervisor of that name. Raises ConfigError for one that b2d does not support."""
    if name not in ALL:
        raise ConfigError(f"b2d does not support the hypervisor {name}", hint=f"--driver {QEMU.name}")
    return ALL[name]


def title(name: str) -> str:
    """Return a hypervisor's name for messages, also when this b2d does not support it."""
    return ALL[name].title if name in ALL else name


def with_traces(paths: MachinePaths) -> list[str]:
    """Return the names of the hypervisors that left files in the machine's folder. Raises B2dError."""
    with os_errors_as_b2d_errors(paths.folder):
        return [
            name for name, hypervisor in ALL.items() if any(os.path.lexists(path) for path in hypervisor.traces(paths))
        ]


def of_disk(paths: MachinePaths) -> str:
    """Return the name of the hypervisor whose disk is in the machine's folder, "" when none is or it cannot be read."""
    return next((name for name in reversed(ALL) if os.path.exists(ALL[name].disk(paths))), "")  # noqa: PTH110  raises no error
