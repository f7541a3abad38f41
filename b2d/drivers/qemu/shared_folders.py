"""Folders of this host in a QEMU machine: a virtiofs or 9p device for each, and a control port to the guest.

QEMU cannot save a machine whose guest has a 9p folder mounted, because no saved state contains its open files: the
guest is told on the control port to unmount. A virtiofsd hands its state to QEMU, and its folders stay mounted.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers import control_port
from b2d.drivers.qemu.command_line import quote_value
from b2d.drivers.qemu.qmp import Qmp, QmpError
from b2d.errors import B2dError, InvalidStateError
from b2d.guest import folder_paths, seed, share_overlaps
from b2d.host import unix_sockets
from b2d.host.files import private_folder, write_atomic
from b2d.host.polling import wait_until
from b2d.machine_names import command_for
from b2d.models import MachineSpec
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.qemu.virtiofsd import VirtiofsServer

OWN_SLOTS, FIRST_SLOT, FUNCTIONS = 12, 0x10, 8  # of the PCI bus; slots below the first have the other devices
UNMOUNT, MOUNT = "folders let-go", "folders have"
ANSWER_S = 30.0  # an emulated guest takes seconds to ask its Docker for names
RELEASE_S = 2.0  # for QEMU to see that nothing is open any more
BLOCKED = "VirtFS"  # in QEMU's reason why it cannot save a machine
HELD, WITHOUT = "held ", "without "
CONTAINER, PID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}"), re.compile(r"[1-9][0-9]{0,9}")  # Docker's own rule
NAME_LIMIT = 20  # of users of folders in a message
ABSENT = "not-"  # as long as SHARE: a device's register size depends on its name, and a saved state on that size
VIRTIOFS, PLAN9 = "virtiofs", "9p"  # the setting mount_type


def find_missing(shared: Sequence[str], refusal: Callable[[str], str]) -> list[int]:
    """Return the numbers of the folders that do not exist, cannot be read, or must not be shared."""
    loose = share_overlaps.refusals(shared)
    paths = enumerate((text, folder_paths.parse(text).host) for text in shared)
    return [number for number, (text, path) in paths if text in loose or not _is_readable(path) or refusal(path)]


def resolve_paths(spec: MachineSpec) -> MachineSpec:
    """Return the spec with each folder's path without links: the path that was checked is the one that is shared."""
    shared = map(folder_paths.parse, spec.folders)
    mode = {True: folder_paths.READ_ONLY, False: ""}
    return spec._replace(folders=tuple(os.path.realpath(folder.host) + mode[folder.read_only] for folder in shared))


def _is_readable(path: str) -> bool:
    return os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)  # noqa: PTH112


def build_arguments(
    spec: MachineSpec, paths: MachinePaths, without: Iterable[int] = (), descriptors: Sequence[int] | None = None
) -> list[str]:
    """Return the devices: virtiofs with `descriptors`, each the connection to a virtiofsd, else 9p.

    A missing folder has a device too, or no saved state would fit, but by another name.
    """
    if not spec.folders:
        return _control_port(paths) if spec.has_control_port else []
    names = [(seed.share(number), number in without) for number in range(len(spec.folders))]
    tagged = [(name, name.replace(seed.SHARE, ABSENT) if is_missing else name) for name, is_missing in names]
    if descriptors is not None:
        devices = _virtiofs(tagged, spec.memory_mib, descriptors)
    else:
        devices = _plan9(tagged, _folders(spec, paths, without))
    if spec.guarded:
        devices = _device_addresses(devices)
    return [*devices, *_control_port(paths)]


def _control_port(paths: MachinePaths) -> list[str]:
    socket = paths.line_socket if unix_sockets.fits(paths.line_socket) else paths.line_socket.name
    return ["-chardev", f"socket,id=line,path={quote_value(socket)},server=on,wait=off", "-serial", "chardev:line"]


def _plan9(tagged: Iterable[tuple[str, str]], folders: Iterable[tuple[Path, bool]]) -> list[str]:
    """Return the 9p devices. Ownership is the host's (`none`): root in a container writes as the user who runs QEMU."""
    devices = []
    for (name, tag), (path, read_only) in zip(tagged, folders, strict=True):
        mode = ",readonly=on" if read_only else ""
        local = f"local,id={name},path={quote_value(path)},security_model=none,multidevs=remap{mode}"
        devices += ["-fsdev", local, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={tag}"]
    return devices


def _virtiofs(tagged: Iterable[tuple[str, str]], memory_mib: int, descriptors: Iterable[int]) -> list[str]:
    """Return the virtiofs devices. The guest's memory is a file that each virtiofsd reads and writes."""
    memory = f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on"
    devices = ["-object", memory, "-machine", "memory-backend=memory"]
    for (name, tag), descriptor in zip(tagged, descriptors, strict=True):
        chardev = f"socket,id={name},fd={descriptor}"
        devices += ["-chardev", chardev, "-device", f"vhost-user-fs-pci,chardev={name},tag={tag}"]
    return devices


def _device_addresses(arguments: list[str]) -> list[str]:
    """Put eight devices into a slot when there are many: a PC has some twenty free slots of eight functions each.

    A few devices get slots of their own, which QEMU chooses; so do all in a state that was saved by an older b2d.
    """
    slots = [index + 1 for index, word in enumerate(arguments) if word == "-device"]
    if len(slots) > OWN_SLOTS:
        for number, index in enumerate(slots):
            more = ",multifunction=on" if number % FUNCTIONS == 0 else ""
            arguments[index] += f",addr={FIRST_SLOT + number // FUNCTIONS:#x}.{number % FUNCTIONS}{more}"
    return arguments


@contextmanager
def start_servers(
    program: str, spec: MachineSpec, paths: MachinePaths, without: Iterable[int] = ()
) -> Iterator[list["VirtiofsServer"] | None]:
    """Start a virtiofsd for each folder; those that QEMU has connected by the end of the block go on.

    Yields None without a `program`. Raises B2dError and OSError.
    """
    if not program:
        yield None
        return
    from b2d.drivers.qemu import virtiofsd

    write_atomic(paths.virtiofsd_log, b"")
    with ExitStack() as connections:
        servers = []
        for path, read_only in _folders(spec, paths, without):
            servers.append(virtiofsd.start(program, path, paths, read_only=read_only))
            connections.push(servers[-1].connection)
        yield servers


def _folders(spec: MachineSpec, paths: MachinePaths, without: Iterable[int]) -> Iterator[tuple[Path, bool]]:
    """Yield the path of each folder, or of its empty replacement, and whether it is read-only."""
    for number, folder in enumerate(map(folder_paths.parse, spec.folders)):
        yield (paths.nothing, True) if number in without else (Path(folder.host), folder.read_only)


def hint_for_log(log: str, name: str) -> str:
    """Return the command to type for a machine when QEMU was built without 9p or cannot use virtiofsd; else ""."""
    if re.search("vhost|memfd", log):
        return f"B2D_MOUNT_TYPE={PLAN9} {command_for('up', name)}"
    return "B2D_SHARE=none b2d up --vm NEW" if re.search("fsdev|9p", log) else ""


def prepare(paths: MachinePaths, without: Sequence[int]) -> None:
    """Create the empty folder that reslots missing ones."""
    if without:
        private_folder(paths.nothing)


def count_mounted(qmp: Qmp) -> int:
    """Return how many folders the guest has mounted now."""
    answer = qmp.execute("query-migrate")
    reasons = answer.get("blocked-reasons", []) if isinstance(answer, dict) else None
    if not isinstance(reasons, list):
        raise QmpError("QEMU does not say what prevents a save", details=repr(answer)[:200])
    return sum(BLOCKED in str(reason) for reason in reasons)


def unmount(paths: MachinePaths, name: str) -> None:
    """Have the guest unmount all folders.

    Raises InvalidStateError when something in the guest uses one: all stay mounted then.
    """
    try:
        lines = control_port.ask(paths.line_socket, UNMOUNT, UNMOUNT, ANSWER_S)
    except B2dError as error:
        message = f"the folders of this host in {name} cannot be unmounted: {error.message}"
        raise B2dError(message, hint=command_for("stop", name)) from error
    answers = [line.removeprefix(HELD).split() for line in lines if line.startswith(HELD)]
    holders = [words for words in answers if len(words) > 1]  # ignore malformed lines
    if holders:
        raise _folders_in_use_error(name, [(kind, identifier, " ".join(rest)) for kind, identifier, *rest in holders])
    await_unmounted(paths, name)


def await_unmounted(paths: MachinePaths, name: str) -> None:
    """Wait until QEMU sees that the guest has unmounted all folders. Raises InvalidStateError when it has not."""

    def is_released() -> bool:
        with Qmp(paths.qmp_socket) as qmp:
            return count_mounted(qmp) == 0

    try:
        wait_until(is_released, condition="QEMU", timeout_s=RELEASE_S)
    except B2dError as error:
        message = f"a program in {name} uses a folder of this host"
        raise InvalidStateError(message, hint=command_for("stop", name)) from error


def mount(paths: MachinePaths, shared: Sequence[str], without: Sequence[int]) -> list[str]:
    """Have the guest mount the folders; return the paths that it lacks. Raises B2dError when it does not answer."""
    shares = [seed.share(number) for number in range(len(shared)) if number not in without]
    lines = control_port.ask(paths.line_socket, " ".join([MOUNT, *shares]), MOUNT, ANSWER_S) if shares else []
    lacking = {line.removeprefix(WITHOUT) for line in lines if line.startswith(WITHOUT)}
    guest_paths = enumerate(folder_paths.parse(text).guest for text in shared)
    return [path for number, path in guest_paths if number in without or path in lacking]


def _folders_in_use_error(name: str, holders: Sequence[tuple[str, str, str]]) -> InvalidStateError:
    """Return the error that names the users of folders, and the commands that end them.

    The names come from the guest: a command contains only valid container names and process numbers.
    """
    shown = holders[:NAME_LIMIT]
    containers = [container for kind, container, _ in shown if kind == "container"]
    programs = [(container, program) for kind, container, program in shown if kind == "program"]
    names = [f"the container {container}" for container in containers] + [
        f"{program} (pid {pid})" for pid, program in programs
    ]
    names += [f"{len(holders) - len(shown)} more"] if len(holders) > len(shown) else []
    valid_names = [container for container in containers if CONTAINER.fullmatch(container)]
    valid_pids = [pid for pid, _ in programs if PID.fullmatch(pid)]
    commands = [f"docker stop {shlex.join(valid_names)}"] if valid_names else []
    commands += [command_for(f"ssh -- sudo kill {' '.join(valid_pids)}", name)] if valid_pids else []
    stop = command_for("stop", name)
    return InvalidStateError(
        f"{name} cannot be saved while programs in it use folders of this host: {', '.join(names)}",
        hint=f"{' && '.join([*commands, command_for('save', name)])}, or {stop}" if commands else stop,
    )
