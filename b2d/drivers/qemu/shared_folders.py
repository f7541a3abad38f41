"""Folders of this host in a machine of QEMU: a device for each, of virtiofs or of 9p, and a line to the guest.

QEMU saves no machine whose guest has one of 9p mounted, as what is known of open files is in no saved state: the guest
is told on the line to let go. A virtiofsd tells QEMU what it knows, and its folders stay.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers import control_port
from b2d.drivers.qemu.command_line import value
from b2d.drivers.qemu.qmp import Qmp, QmpError
from b2d.errors import B2dError, InvalidStateError
from b2d.guest import folder_paths, seed, share_overlaps
from b2d.host import unix_sockets
from b2d.host.files import private_folder, write_atomic
from b2d.host.polling import wait_until
from b2d.models import MachineSpec
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from b2d.drivers.qemu.virtiofsd import VirtiofsServer

OWN_PLACES, FIRST_PLACE, FUNCTIONS = 12, 0x10, 8  # slots of the PCI bus; below the first are the other devices
LET_GO, HAVE = "folders let-go", "folders have"
ANSWER_S = 30.0  # an emulated guest that asks its Docker for names takes some seconds
FORGOTTEN_S = 2.0  # for QEMU to see that nothing is open any more
BLOCKED = "VirtFS"  # in QEMU's reason why a machine cannot be saved
HELD, WITHOUT = "held ", "without "
CONTAINER, PID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}"), re.compile(r"[1-9][0-9]{0,9}")  # Docker's own rule
TOLD_LIMIT = 20  # of those in the way
ABSENT = "not-"  # as long as SHARE: the size of a device's registers follows from its name, and so whether a state fits
VIRTIOFS, PLAN9 = "virtiofs", "9p"  # the setting mount_type


def missing(shared: Sequence[str], refusal: Callable[[str], str]) -> list[int]:
    """The numbers of those that are no folder here now, that nobody may look into, or that may not be shared."""
    loose = share_overlaps.refusals(shared)
    paths = enumerate((one, folder_paths.parse(one).host) for one in shared)
    return [number for number, (one, path) in paths if one in loose or not _can_be_had(path) or refusal(path)]


def resolved(spec: MachineSpec) -> MachineSpec:
    """The spec with each folder's path as it is without links: what was looked at is what is shared."""
    shared = map(folder_paths.parse, spec.folders)
    mode = {True: folder_paths.READ_ONLY, False: ""}
    return replace(spec, folders=tuple(os.path.realpath(one.host) + mode[one.read_only] for one in shared))


def _can_be_had(path: str) -> bool:
    return os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)  # noqa: PTH112


def arguments(
    spec: MachineSpec, paths: MachinePaths, without: Iterable[int] = (), descriptors: Sequence[int] | None = None
) -> list[str]:
    """The devices: of virtiofs with `descriptors`, each the connection to its virtiofsd, of 9p else.

    One whose folder is missing is there too, or no saved state would fit: but by another name.
    """
    if not spec.folders:
        return []
    names = [(seed.share(number), number in without) for number in range(len(spec.folders))]
    tagged = [(name, name.replace(seed.SHARE, ABSENT) if is_missing else name) for name, is_missing in names]
    if descriptors is not None:
        found = _virtiofs(tagged, spec.memory_mib, descriptors)
    else:
        found = _plan9(tagged, _shared(spec, paths, without))
    if spec.guarded:
        found = _device_addresses(found)
    socket = paths.line_socket if unix_sockets.fits(paths.line_socket) else paths.line_socket.name
    chardev = f"socket,id=line,path={value(socket)},server=on,wait=off"
    return [*found, "-chardev", chardev, "-serial", "chardev:line"]


def _plan9(tagged: Iterable[tuple[str, str]], lent: Iterable[tuple[Path, bool]]) -> list[str]:
    """Ownership is the host's own (`none`): what root in a container writes is the person's who runs QEMU."""
    found = []
    for (name, tag), (path, read_only) in zip(tagged, lent, strict=True):
        mode = ",readonly=on" if read_only else ""
        local = f"local,id={name},path={value(path)},security_model=none,multidevs=remap{mode}"
        found += ["-fsdev", local, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={tag}"]
    return found


def _virtiofs(tagged: Iterable[tuple[str, str]], memory_mib: int, descriptors: Iterable[int]) -> list[str]:
    """The guest's memory is a file that each virtiofsd reads and writes."""
    memory = f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on"
    found = ["-object", memory, "-machine", "memory-backend=memory"]
    for (name, tag), descriptor in zip(tagged, descriptors, strict=True):
        chardev = f"socket,id={name},fd={descriptor}"
        found += ["-chardev", chardev, "-device", f"vhost-user-fs-pci,chardev={name},tag={tag}"]
    return found


def _device_addresses(arguments: list[str]) -> list[str]:
    """A PC has some twenty free places for devices, and each takes eight functions: of many, eight share one.

    Of few, each has a place of its own that QEMU chooses; so have all in a state that was saved by an older b2d.
    """
    places = [index + 1 for index, word in enumerate(arguments) if word == "-device"]
    if len(places) > OWN_PLACES:
        for number, index in enumerate(places):
            more = ",multifunction=on" if number % FUNCTIONS == 0 else ""
            arguments[index] += f",addr={FIRST_PLACE + number // FUNCTIONS:#x}.{number % FUNCTIONS}{more}"
    return arguments


@contextmanager
def serving(
    program: str, spec: MachineSpec, paths: MachinePaths, without: Iterable[int] = ()
) -> Iterator[list["VirtiofsServer"] | None]:
    """A virtiofsd for each folder, those that QEMU has taken by the end of the block go on; without a `program` None.

    Raises B2dError and OSError.
    """
    if not program:
        yield None
        return
    from b2d.drivers.qemu import virtiofsd

    write_atomic(paths.virtiofsd_log, b"")
    with ExitStack() as connections:
        found = []
        for path, read_only in _shared(spec, paths, without):
            found.append(virtiofsd.start(program, path, paths, read_only=read_only))
            connections.push(found[-1].connection)
        yield found


def _shared(spec: MachineSpec, paths: MachinePaths, without: Iterable[int]) -> Iterator[tuple[Path, bool]]:
    """Each folder, or what stands for it, and whether nobody may write there."""
    for number, folder in enumerate(map(folder_paths.parse, spec.folders)):
        yield (paths.nothing, True) if number in without else (Path(folder.host), folder.read_only)


def hint(said: str) -> str:
    """What to type where that is the word of a QEMU that was built without 9p, or cannot do with a virtiofsd."""
    if re.search("vhost|memfd", said):
        return f"B2D_MOUNT_TYPE={PLAN9} b2d up"
    return "B2D_SHARE=none b2d up --vm NEW" if re.search("fsdev|9p", said) else ""


def prepare(paths: MachinePaths, without: Sequence[int]) -> None:
    """Make what stands for those that are missing: an empty folder."""
    if without:
        private_folder(paths.nothing)


def count_mounted(qmp: Qmp) -> int:
    """How many the guest has mounted now."""
    told = qmp.execute("query-migrate")
    reasons = told.get("blocked-reasons", []) if isinstance(told, dict) else None
    if not isinstance(reasons, list):
        raise QmpError("QEMU does not say what keeps it from being saved", details=repr(told)[:200])
    return sum(BLOCKED in str(reason) for reason in reasons)


def unmount(paths: MachinePaths, name: str) -> None:
    """Have the guest unmount all of them.

    Raises InvalidStateError where something in there holds one: it keeps all then.
    """
    try:
        said = control_port.ask(paths.line_socket, LET_GO, LET_GO, ANSWER_S)
    except B2dError as error:
        said_so = f"folders of this host are in {name}, and cannot be taken out: {error.message}"
        raise B2dError(said_so, hint="b2d stop") from error
    answers = [one.removeprefix(HELD).split() for one in said if one.startswith(HELD)]
    holders = [words for words in answers if len(words) > 1]  # whatever a guest says
    if holders:
        raise _refused(name, [(kind, who, " ".join(rest)) for kind, who, *rest in holders])

    def gone() -> bool:
        with Qmp(paths.qmp_socket) as qmp:
            return count_mounted(qmp) == 0

    try:
        wait_until(gone, condition="QEMU", timeout_s=FORGOTTEN_S)
    except B2dError as error:
        raise InvalidStateError(f"something in {name} uses folders of this host", hint="b2d stop") from error


def mount(paths: MachinePaths, shared: Sequence[str], without: Sequence[int]) -> list[str]:
    """Have the guest mount them; the paths of those that it has not. Raises B2dError when it does not answer."""
    there = [seed.share(number) for number in range(len(shared)) if number not in without]
    said = control_port.ask(paths.line_socket, " ".join([HAVE, *there]), HAVE, ANSWER_S) if there else []
    lacking = {one.removeprefix(WITHOUT) for one in said if one.startswith(WITHOUT)}
    wanted = enumerate(folder_paths.parse(one).guest for one in shared)
    return [path for number, path in wanted if number in without or path in lacking]


def _refused(name: str, holders: Sequence[tuple[str, str, str]]) -> InvalidStateError:
    """Return who is in the way of a save, and what to type.

    The guest says who it is: in a command stands only what is a container's name, or a process's number.
    """
    told = holders[:TOLD_LIMIT]
    containers = [who for kind, who, _ in told if kind == "container"]
    programs = [(who, called) for kind, who, called in told if kind == "program"]
    them = [f"the container {who}" for who in containers] + [f"{called} (pid {pid})" for pid, called in programs]
    them += [f"{len(holders) - len(told)} more"] if len(holders) > len(told) else []
    stopped = [who for who in containers if CONTAINER.fullmatch(who)]
    killed = [pid for pid, _ in programs if PID.fullmatch(pid)]
    ways = [f"docker stop {shlex.join(stopped)}"] if stopped else []
    ways += [f"b2d ssh sudo kill {' '.join(killed)}"] if killed else []
    return InvalidStateError(
        f"{name} cannot be saved while something in it uses a folder of this host: {', '.join(them)}",
        hint=f"{' && '.join(ways)} && b2d save, or b2d stop" if ways else "b2d stop",
    )
