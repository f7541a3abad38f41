"""What a machine of VirtualBox is given anew before each boot, in its settings and in its folder."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers import control_port
from b2d.drivers.virtualbox import hardware
from b2d.drivers.virtualbox.port_forwards import RULE
from b2d.guest import folder_paths, seed, share_overlaps, share_policy
from b2d.host.files import read_bounded, write_atomic
from b2d.models import MachineSpec
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.machine import VirtualBoxMachine

LEAST_MEDIUM = 17 * 2048  # bytes: VirtualBox takes no smaller file for a CD


def write_files(paths: MachinePaths) -> None:
    """The seed as a CD, an empty console, and no socket of an earlier line."""
    write_atomic(paths.virtualbox_seed, read_bounded(paths.seed).ljust(LEAST_MEDIUM, b"\0"))
    paths.serial_log.unlink(missing_ok=True)
    write_atomic(paths.serial_log, b"")  # VirtualBox would make it readable by others
    paths.line_socket.unlink(missing_ok=True)


def settings(spec: MachineSpec, paths: MachinePaths, machine: "VirtualBoxMachine") -> list[hardware.Step]:
    """What the spec says now."""
    return [
        *hardware.of_spec(spec, str(paths.serial_log)),
        *hardware.line(str(paths.line_socket) if control_port.is_possible(paths.line_socket) else ""),
        *forwards(spec, machine),
        *_shares(spec, paths, machine),
    ]


def host_loopback(paths: MachinePaths, version: hardware.Version) -> list[hardware.Step]:
    """The guest reaches this host's loopback where its seed speaks of that, and only there."""
    content = read_bounded(paths.seed)
    return hardware.host_loopback(version, seed.LOOPBACK in seed.network(content) and seed.has_host_loopback(content))


def forwards(spec: MachineSpec, machine: "VirtualBoxMachine") -> list[hardware.Step]:
    """Ours, in place of those that were; a person's own rules stay."""
    ours = (hardware.SSH_RULE, hardware.DOCKER_RULE)
    there = [name for name, _, _ in machine.forwards() if name in ours or RULE.fullmatch(name)]
    return [*hardware.without_forwards(there), *hardware.forwards(spec)]


def _shares(spec: MachineSpec, paths: MachinePaths, machine: "VirtualBoxMachine") -> list[hardware.Step]:
    """The same for folders. VirtualBox would not start with one that is not there: the guest says that it has none."""
    ours = [name for name in machine.shares() if name.startswith(seed.SHARE)]
    steps = hardware.unshared(ours)
    loose = share_overlaps.refusals(spec.folders)
    for number, text in enumerate(spec.folders):
        folder = folder_paths.parse(text)
        real = os.path.realpath(folder.host)  # what is looked at is what is shared
        if text not in loose and Path(real).is_dir() and not share_policy.refusal(real, paths.home):
            steps.append(hardware.shared(seed.share(number), real, writable=not folder.read_only))
    return steps
