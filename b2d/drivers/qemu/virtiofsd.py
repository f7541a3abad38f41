"""virtiofsd: a process beside QEMU that gives the guest one folder of this host, by virtiofs.

It ends with its connection to QEMU. When it ends before, the guest waits for it for ever: QEMU connects no second time.
"""

import os
import re
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from b2d.errors import B2dError
from b2d.guest import folder_paths
from b2d.host import processes, seccomp, unix_sockets
from b2d.host.process_identity import identify
from b2d.models import ProcessIdentity
from b2d.paths import MachinePaths

PROGRAM = "virtiofsd"
SEARCH_PATHS = ("/usr/libexec/virtiofsd", "/usr/lib/virtiofsd")  # Debian's and Fedora's, and Arch's: in nobody's PATH
VERSION_TIMEOUT_S = 5.0
EVERYBODY = (1 << 32) - 1  # so many users and groups there can be


@dataclass(frozen=True, slots=True)
class VirtiofsServer:
    """One that waits for QEMU at the other end of its connection, and ends when nobody has that any more."""

    connection: socket.socket
    process: ProcessIdentity | None


def find() -> str:
    """The one of this host that a machine can be saved with; "" where there is none."""
    version, program = newest()
    return program if version >= folder_paths.VIRTIOFSD else ""


def newest() -> tuple[tuple[int, int], str]:
    """Version and path of this host's; (0, 0) where there is none. QEMU's own of old is none: another program."""
    paths = [path for path in (shutil.which(PROGRAM), *SEARCH_PATHS) if path and os.access(path, os.X_OK)]
    return max(((_version(path), path) for path in paths), default=((0, 0), ""))


def _version(program: str) -> tuple[int, int]:
    try:
        said = processes.run([program, "--version"], timeout_s=VERSION_TIMEOUT_S).stdout
    except B2dError:
        return 0, 0
    found = re.match(rb"virtiofsd (\d{1,9})\.(\d{1,9})", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def start(program: str, folder: Path, paths: MachinePaths, *, read_only: bool) -> VirtiofsServer:
    """Start one. Raises B2dError and OSError; when this b2d ends before QEMU has the connection, so does it."""
    path = paths.virtiofsd_socket
    with unix_sockets.listen(path) as listening:
        connection = socket.socket(socket.AF_UNIX)
        try:
            unix_sockets.connect(connection, path)  # it waits there for the program, which takes the first alone
            path.unlink()
            command = [program, "--fd", str(listening.fileno()), *arguments(folder, read_only=read_only)]
            descriptors = [listening.fileno()]
            pid = seccomp.call_confined(
                lambda: processes.spawn_detached(command, paths.virtiofsd_log, os.environ, descriptors)
            )
        except BaseException:
            connection.close()
            raise
    return VirtiofsServer(connection, identify(pid))


def arguments(folder: Path, *, read_only: bool) -> Sequence[str]:
    """What it is told: nothing is cached, and all that the guest writes is the person's, whoever did so there."""
    mine = {"uid": os.getuid(), "gid": os.getgid()}
    return [
        *("--shared-dir", str(folder)),
        *("--cache", "never", "--allow-mmap"),
        *_sandbox(),
        *(word for kind, number in mine.items() for word in (f"--translate-{kind}", _squashed(number))),
        *("--migration-on-error", "guest-error"),  # a file that is gone when the machine goes on is an error there
        *(["--readonly"] if read_only else []),
    ]


def _sandbox() -> Sequence[str]:
    """The narrowest of its own that works here: it then sees the one folder alone, even if a guest takes it over."""
    if os.getuid() == 0:  # it insists on capabilities that b2d takes from it, unless it is told
        return ("--sandbox", "chroot", "--modcaps=-mknod:-setfcap")
    return ("--sandbox", "namespace" if has_namespaces() else "none")


def is_kept_apart() -> bool:
    """Whether one that is started here sees its folder alone."""
    return os.getuid() == 0 or has_namespaces()


def has_namespaces() -> bool:
    """Whether this kernel gives a person the namespaces that the program asks for; it would not start without."""
    command = ["unshare", "--user", "--mount", "--pid", "--net", "--fork", "true"]
    try:
        return processes.run(command, timeout_s=VERSION_TIMEOUT_S).exit_code == 0
    except B2dError:
        return False


def _squashed(number: int) -> str:
    return f"squash-guest:0:{number}:{EVERYBODY}"
