"""Folders of this host in a machine of QEMU: a 9p device for each, and a line on which the guest is told to let go.

QEMU saves no machine whose guest has one mounted: what its server knows of open files is in no saved state.
"""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from b2d import folders, seed, sockets
from b2d.drivers import line
from b2d.drivers.qemu_arguments import value
from b2d.drivers.qmp import Qmp
from b2d.errors import B2dError, WrongState
from b2d.files import private_folder
from b2d.layout import MachinePaths
from b2d.wait import wait_until

LET_GO, HAVE = "folders let-go", "folders have"
ANSWER_S = 30.0  # an emulated guest that asks its Docker for names takes some seconds
FORGOTTEN_S = 2.0  # for QEMU to see that nothing is open any more
BLOCKED = "VirtFS"  # in QEMU's reason why a machine cannot be saved
HELD, WITHOUT = "held ", "without "
ABSENT = "not-"  # as long as SHARE: the size of a device's registers follows from its name, and so whether a state fits


def missing(shared: Sequence[str]) -> list[int]:
    """The numbers of those that are no folder here now, or that nobody may look into."""
    paths = enumerate(folders.parse(one).host for one in shared)
    return [number for number, path in paths if not (os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK))]  # noqa: PTH112


def arguments(shared: Sequence[str], paths: MachinePaths, without: Iterable[int] = ()) -> list[str]:
    """The devices. One whose folder is missing is there too, or no saved state would fit: but by another name.

    Ownership is the host's own (`none`): what root in a container writes is the person's who runs QEMU.
    """
    if not shared:
        return []
    found = []
    for number, folder in enumerate(map(folders.parse, shared)):
        name = seed.share(number)
        path, tag = (
            (paths.nothing, name.replace(seed.SHARE, ABSENT)) if number in without else (Path(folder.host), name)
        )
        mode = ",readonly=on" if folder.read_only else ""
        local = f"local,id={name},path={value(path)},security_model=none,multidevs=remap{mode}"
        found += ["-fsdev", local, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={tag}"]
    socket = paths.line_socket if sockets.fits(paths.line_socket) else paths.line_socket.name
    chardev = f"socket,id=line,path={value(socket)},server=on,wait=off"
    return [*found, "-chardev", chardev, "-serial", "chardev:line"]


def hint(said: str) -> str:
    """What to type where that is the word of a QEMU that was built without 9p."""
    return "B2D_SHARE=none b2d up --vm NEW" if re.search("fsdev|9p", said) else ""


def prepare(paths: MachinePaths, without: Sequence[int]) -> None:
    """Make what stands for those that are missing: an empty folder."""
    if without:
        private_folder(paths.nothing)


def mounted(qmp: Qmp) -> int:
    """How many the guest has mounted now."""
    return sum(BLOCKED in reason for reason in qmp.execute("query-migrate").get("blocked-reasons", []))


def take(paths: MachinePaths, name: str) -> None:
    """Have the guest unmount all of them. Raises WrongState where something in there holds one: it keeps all then."""
    try:
        said = line.ask(paths.line_socket, LET_GO, LET_GO, ANSWER_S)
    except B2dError as error:
        said_so = f"folders of this host are in {name}, and cannot be taken out: {error.message}"
        raise B2dError(said_so, hint="b2d stop") from error
    holders = [one.removeprefix(HELD).split() for one in said if one.startswith(HELD)]
    if holders:
        raise _refused(name, [(kind, who, " ".join(rest)) for kind, who, *rest in holders])

    def gone() -> bool:
        with Qmp(paths.qmp_socket) as qmp:
            return mounted(qmp) == 0

    try:
        wait_until(gone, what="QEMU", timeout_s=FORGOTTEN_S)
    except B2dError as error:
        raise WrongState(f"something in {name} uses folders of this host", hint="b2d stop") from error


def give(paths: MachinePaths, shared: Sequence[str], without: Sequence[int]) -> list[str]:
    """Have the guest mount them; the paths of those that it has not. Raises B2dError when it does not answer."""
    there = [seed.share(number) for number in range(len(shared)) if number not in without]
    said = line.ask(paths.line_socket, " ".join([HAVE, *there]), HAVE, ANSWER_S) if there else []
    lacking = [folders.parse(shared[number]).guest for number in without]
    return lacking + [one.removeprefix(WITHOUT) for one in said if one.startswith(WITHOUT)]


def _refused(name: str, holders: Sequence[tuple[str, str, str]]) -> WrongState:
    """Who is in the way of a save, and what to type."""
    containers = [who for kind, who, _ in holders if kind == "container"]
    programs = [(who, called) for kind, who, called in holders if kind == "program"]
    them = [f"the container {who}" for who in containers] + [f"{called} (pid {pid})" for pid, called in programs]
    ways = [f"docker stop {shlex.join(containers)}"] if containers else []
    ways += [f"b2d ssh sudo kill {' '.join(pid for pid, _ in programs)}"] if programs else []
    return WrongState(
        f"{name} cannot be saved while something in it uses a folder of this host: {', '.join(them)}",
        hint=f"{' && '.join(ways)} && b2d save, or b2d stop",
    )
