"""Settings and files that a VirtualBox machine is given before each boot."""

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

MIN_CD_SIZE = 17 * 2048  # bytes: VirtualBox accepts no smaller file as a CD


def write_files(paths: MachinePaths) -> None:
    """Write the seed as a CD and an empty console log, and remove the socket of an earlier control port."""
    write_atomic(paths.virtualbox_seed, read_bounded(paths.seed).ljust(MIN_CD_SIZE, b"\0"))
    paths.serial_log.unlink(missing_ok=True)
    write_atomic(paths.serial_log, b"")  # VirtualBox would make it readable by others
    paths.line_socket.unlink(missing_ok=True)


def settings(spec: MachineSpec, paths: MachinePaths, machine: "VirtualBoxMachine") -> list[hardware.Step]:
    """Return the settings that the spec asks for now."""
    return [
        *hardware.spec_settings(spec, str(paths.serial_log)),
        *hardware.control_port(str(paths.line_socket) if control_port.is_possible(paths.line_socket) else ""),
        *forwards(spec, machine),
        *_shares(spec, paths, machine),
    ]


def host_loopback(paths: MachinePaths, version: hardware.Version) -> list[hardware.Step]:
    """Allow access to this host's loopback only when the machine's seed asks for it."""
    content = read_bounded(paths.seed)
    return hardware.host_loopback(version, seed.LOOPBACK in seed.network(content) and seed.has_host_loopback(content))


def forwards(spec: MachineSpec, machine: "VirtualBoxMachine") -> list[hardware.Step]:
    """Replace b2d's own forwards; the user's rules stay."""
    ours = (hardware.SSH_RULE, hardware.DOCKER_RULE)
    existing = [name for name, _, _ in machine.forwards() if name in ours or RULE.fullmatch(name)]
    return [*hardware.remove_forwards(existing), *hardware.forwards(spec)]


def _shares(spec: MachineSpec, paths: MachinePaths, machine: "VirtualBoxMachine") -> list[hardware.Step]:
    """Replace b2d's own shared folders.

    VirtualBox would not start with a folder that does not exist: it is left out, and the guest reports it.
    """
    ours = [name for name in machine.shares() if name.startswith(seed.SHARE)]
    steps = hardware.remove_shares(ours)
    loose = share_overlaps.refusals(spec.folders)
    for number, text in enumerate(spec.folders):
        folder = folder_paths.parse(text)
        real = os.path.realpath(folder.host)  # the path that is checked is the one that is shared
        if text not in loose and Path(real).is_dir() and not share_policy.refusal(real, paths.home):
            steps.append(hardware.add_share(seed.share(number), real, writable=not folder.read_only))
    return steps
