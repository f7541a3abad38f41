"""virtiofsd: a process beside QEMU that shares one folder of this host with the guest by virtiofs.

It ends with its connection to QEMU. When it ends earlier, the guest waits forever: QEMU does not reconnect.
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
SEARCH_PATHS = ("/usr/libexec/virtiofsd", "/usr/lib/virtiofsd")  # Debian's and Fedora's, and Arch's: not in PATH
VERSION_TIMEOUT_S = 5.0
ID_COUNT = (1 << 32) - 1  # of users, and of groups


@dataclass(frozen=True, slots=True)
class VirtiofsServer:
    """A virtiofsd that waits for QEMU at the other end of its connection, and ends when all copies of it are closed."""

    connection: socket.socket
    process: ProcessIdentity | None


def find() -> str:
    """Return the path of a virtiofsd with which a machine can be saved; "" when there is none."""
    version, program = find_newest()
    return program if version >= folder_paths.VIRTIOFSD else ""


def find_newest() -> tuple[tuple[int, int], str]:
    """Return version and path of the newest virtiofsd on this host; (0, 0) when there is none.

    QEMU's own virtiofsd of earlier years is another program and does not count.
    """
    paths = [path for path in (shutil.which(PROGRAM), *SEARCH_PATHS) if path and os.access(path, os.X_OK)]
    return max(((_version(path), path) for path in paths), default=((0, 0), ""))


def _version(program: str) -> tuple[int, int]:
    try:
        output = processes.run([program, "--version"], timeout_s=VERSION_TIMEOUT_S).stdout
    except B2dError:
        return 0, 0
    match = re.match(rb"virtiofsd (\d{1,9})\.(\d{1,9})", output)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def start(program: str, folder: Path, paths: MachinePaths, *, read_only: bool) -> VirtiofsServer:
    """Start a virtiofsd, which ends when this b2d ends before QEMU has the connection. Raises B2dError and OSError."""
    path = paths.virtiofsd_socket
    with unix_sockets.listen(path) as listening:
        connection = socket.socket(socket.AF_UNIX)
        try:
            unix_sockets.connect(connection, path)  # queued for the program, which accepts only the first connection
            path.unlink()
            command = [program, "--fd", str(listening.fileno()), *build_arguments(folder, read_only=read_only)]
            descriptors = [listening.fileno()]
            pid = seccomp.call_confined(
                lambda: processes.spawn_detached(command, paths.virtiofsd_log, os.environ, descriptors)
            )
        except BaseException:
            connection.close()
            raise
    return VirtiofsServer(connection, identify(pid))


def build_arguments(folder: Path, *, read_only: bool) -> Sequence[str]:
    """Return its arguments: no cache, and all files that the guest writes are this user's, whoever wrote them."""
    ids = {"uid": os.getuid(), "gid": os.getgid()}
    return [
        *("--shared-dir", str(folder)),
        *("--cache", "never", "--allow-mmap"),
        *_sandbox(),
        *(word for kind, number in ids.items() for word in (f"--translate-{kind}", _squashed(number))),
        *("--migration-on-error", "guest-error"),  # a file that is gone at resume is an error in the guest
        *(["--readonly"] if read_only else []),
    ]


def _sandbox() -> Sequence[str]:
    """Return the strictest sandbox that works on this host: it sees that folder alone, even under a guest's control."""
    if os.getuid() == 0:  # else it requires capabilities that b2d drops
        return ("--sandbox", "chroot", "--modcaps=-mknod:-setfcap")
    return ("--sandbox", "namespace" if has_namespaces() else "none")


def is_sandboxed() -> bool:
    """Tell whether a virtiofsd on this host sees its folder alone."""
    return os.getuid() == 0 or has_namespaces()


def has_namespaces() -> bool:
    """Tell whether this kernel lets a user create the namespaces of the sandbox; virtiofsd does not start without."""
    command = ["unshare", "--user", "--mount", "--pid", "--net", "--fork", "true"]
    try:
        return processes.run(command, timeout_s=VERSION_TIMEOUT_S).exit_code == 0
    except B2dError:
        return False


def _squashed(number: int) -> str:
    return f"squash-guest:0:{number}:{ID_COUNT}"
