"""The process of a QEMU machine: its identity, the record of its start, and its end."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from b2d.drivers.qemu.qmp import Qmp, QmpError, QmpTimeoutError
from b2d.errors import HypervisorError, WaitTimeoutError
from b2d.formats import json_text, numbers
from b2d.host.file_removal import SET_ASIDE, move_aside
from b2d.host.files import read_bounded, read_text_tail, write_atomic
from b2d.host.polling import wait_until
from b2d.host.process_identity import PID_LIMIT, from_json, identify, is_alive
from b2d.machine_store.spec_json import loopback
from b2d.models import Endpoint, ProcessIdentity
from b2d.paths import MachinePaths

END_TIMEOUT_S = 3.0  # for each step: quit, SIGTERM, SIGKILL
END_INTERVAL_S = 0.01
PROC = Path("/proc")
MAX_INODE = (1 << 64) - 1
PID_FILE = "-pidfile"  # QEMU's option


class Launch(NamedTuple):
    """The record of a start: the machine's ports, and what its saved state will depend on."""

    endpoint: Endpoint
    hardware: list[str]
    image: str  # sha256
    process: ProcessIdentity | None = None  # None: b2d ended between QEMU's start and this record
    loader: ProcessIdentity | None = None  # the b2d that loads its saved state; the guest does not run before
    missing: tuple[int, ...] = ()  # numbers of the shared folders that did not exist
    servers: tuple[ProcessIdentity | None, ...] = ()  # of the shared folders, by virtiofs
    holds: bool = False  # True: the guest holds, and only that b2d has it continue
    disk: int = 0  # inode of the data disk's file, which reveals a copied folder; 0: unknown


class QemuProcess:
    """QEMU's process. QEMU writes the pid file and removes it at a clean end; b2d records its identity beside it."""

    def __init__(self, paths: MachinePaths) -> None:
        """Look at the machine of these files."""
        self.paths = paths

    def find(self) -> ProcessIdentity | None:
        """Return the machine's living process; never another program that got its pid since."""
        launch = self.launch()
        if launch is not None and launch.process is not None and is_alive(launch.process):
            return launch.process if self.disk() in (0, launch.disk) or not launch.disk or self._listens() else None
        pid = self._pid()
        living = identify(pid) if pid is not None else None
        if launch is not None and launch.process is not None and launch.process.pid == pid:
            return None
        if living is not None and self._listens():
            return living
        return self._find_unrecorded() if launch is not None and launch.process is None else None

    def disk(self) -> int:
        """Return the inode of the data disk's file, 0 when there is none."""
        try:
            return self.paths.disk_qcow2.stat().st_ino
        except OSError:
            return 0

    def has_leftover_pid(self) -> bool:
        """Tell whether a process that did not end cleanly left its pid file."""
        return self.paths.qemu_pid.exists()

    def is_abandoned(self) -> bool:
        """Tell whether the b2d that was to load the saved state has ended, so that nothing will load it."""
        launch = self.launch()
        return launch is not None and launch.loader is not None and not is_alive(launch.loader)

    def is_half_started(self) -> bool:
        """Tell whether that b2d ended before it recorded the process: QEMU may not be ready."""
        launch = self.launch()
        return launch is not None and launch.process is None and self.is_abandoned()

    def launch(self) -> Launch | None:
        """Return the record of the last start, None when it is missing or damaged."""
        try:
            document = json_text.parse(read_bounded(self.paths.qemu_record))
            process, loader = document["process"], document.get("loader")
            return Launch(
                endpoint=_endpoint(document["endpoint"]),
                hardware=json_text.texts(document["hardware"]),
                image=json_text.text(document["image"]),
                process=from_json(process) if process is not None else None,
                loader=from_json(loader) if loader is not None else None,
                missing=tuple(numbers.whole(number, 0, MAX_INODE) for number in document.get("missing", ())),
                servers=tuple(from_json(server) if server else None for server in document.get("servers", ())),
                holds=bool(document.get("holds", False)),
                disk=numbers.whole(document.get("disk", 0), 0, MAX_INODE),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def record(self, launch: Launch) -> None:
        """Write the record, which stays until the process ends."""
        write_atomic(self.paths.qemu_record, json.dumps(json_text.document(launch), indent=2).encode() + b"\n")

    def end(self) -> None:
        """Cut the power: ask QEMU to quit, then signal it. Without a process, only remove its leftovers.

        Raises HypervisorError when even the last signal does not end it.
        """
        process = self.find()
        if process is not None and not (self._quits(process) or self._ends_by_signal(process)):
            raise HypervisorError(f"QEMU (pid {process.pid}) does not end, not even after SIGKILL")
        for path in (self.paths.qmp_socket, self.paths.qemu_record, self.paths.qemu_pid):
            move_aside(path, self.paths.home / SET_ASIDE)

    def _find_unrecorded(self) -> ProcessIdentity | None:
        """Return the process whose b2d ended before it recorded it, recognised by the pid file in its arguments."""
        pid_file = str(self.paths.qemu_pid)
        return next(
            (identify(pid) for pid, command in _commands() if pid_file in _option_value(command, PID_FILE)), None
        )

    def _pid(self) -> int | None:
        try:
            pid = int(read_text_tail(self.paths.qemu_pid))
        except ValueError:
            return None
        return pid if 0 < pid < PID_LIMIT else None

    def _listens(self) -> bool:
        """Tell whether a process listens on the control socket: it is in a private folder, so it is this QEMU."""
        try:
            Qmp(self.paths.qmp_socket).close()
        except QmpTimeoutError:
            return True
        except QmpError:
            return False
        return True

    def _quits(self, process: ProcessIdentity) -> bool:
        try:
            with Qmp(self.paths.qmp_socket) as qmp:
                qmp.execute("quit")
        except QmpError:
            return not is_alive(process)
        return _has_ended(process)

    @staticmethod
    def _ends_by_signal(process: ProcessIdentity) -> bool:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if is_alive(process):
                os.kill(process.pid, number)
            if _has_ended(process):
                return True
        return False


def _endpoint(document: dict[str, object]) -> Endpoint:
    """Return the recorded endpoint. Raises ValueError, TypeError and KeyError for anything else."""
    ssh_port, docker_port = (numbers.port(document[name]) for name in ("ssh_port", "docker_port"))
    return Endpoint(loopback(document["address"]), ssh_port, docker_port)


def _commands() -> Iterator[tuple[int, list[str]]]:
    """Yield this user's processes with their command lines; other users could forge theirs."""
    if not PROC.is_dir():
        import psutil

        processes = psutil.process_iter(["cmdline", "uids"])
        yield from (
            (entry.pid, entry.info["cmdline"] or []) for entry in processes if os.getuid() in (entry.info["uids"] or ())
        )
        return
    for folder in PROC.glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid():
                yield int(folder.name), os.fsdecode((folder / "cmdline").read_bytes()).split("\0")
        except OSError:  # the process has ended
            continue


def _option_value(command: list[str], option: str) -> list[str]:
    """Return the value of an option as a list; empty when it is not given."""
    return command[command.index(option) + 1 :][:1] if option in command else []


def _has_ended(process: ProcessIdentity) -> bool:
    try:
        wait_until(
            lambda: not is_alive(process),
            condition="QEMU's end",
            timeout_s=END_TIMEOUT_S,
            interval_s=END_INTERVAL_S,
        )
    except WaitTimeoutError:
        return False
    return True
