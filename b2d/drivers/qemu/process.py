"""The process of one QEMU machine: which one it is, how it was started, and its end."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

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

END_TIMEOUT_S = 3.0  # for each way of ending a process, from a polite one to the last
END_INTERVAL_S = 0.01
PROC = Path("/proc")
LARGEST = (1 << 64) - 1  # of a file's number
PID_FILE = "-pidfile"  # QEMU's option


@dataclass(frozen=True, slots=True)
class Launch:
    """How a machine was started: where its ports are, and what a state that it saves will depend on."""

    endpoint: Endpoint
    hardware: list[str]
    image: str  # sha256
    process: ProcessIdentity | None = None  # None: b2d ended between QEMU's start and this record
    loader: ProcessIdentity | None = None  # the b2d that gives it a saved state, before which it does not run
    missing: tuple[int, ...] = ()  # numbers of the shared folders that were not there
    servers: tuple[ProcessIdentity | None, ...] = ()  # of the shared folders, where they are had by virtiofs
    disk: int = 0  # the number of the data disk's file, by which a folder that was copied is told; 0: not known


@dataclass(frozen=True, slots=True)
class QemuProcess:
    """QEMU writes the pid file and removes it at a clean end; b2d writes beside it who that was."""

    paths: MachinePaths

    def find(self) -> ProcessIdentity | None:
        """The machine's living process; a pid that was given to another program since is not taken for it."""
        launch = self.launch()
        if launch is not None and launch.process is not None and is_alive(launch.process):
            return launch.process if self.disk() in (0, launch.disk) or not launch.disk or self._listens() else None
        pid = self._pid()
        living = identify(pid) if pid is not None else None
        if launch is not None and launch.process is not None and launch.process.pid == pid:
            return None
        if living is not None and self._listens():
            return living
        return self._unrecorded() if launch is not None and launch.process is None else None

    def disk(self) -> int:
        """The number of the data disk's file, 0 when there is none."""
        try:
            return self.paths.disk_qcow2.stat().st_ino
        except OSError:
            return 0

    def left_behind(self) -> bool:
        """True when a process that did not end cleanly left its pid."""
        return self.paths.qemu_pid.exists()

    def abandoned(self) -> bool:
        """True when the b2d that was to give it its saved state is gone: it waits for nobody."""
        launch = self.launch()
        return launch is not None and launch.loader is not None and not is_alive(launch.loader)

    def half_started(self) -> bool:
        """True when that b2d was gone before it wrote down which process it is: nobody has waited for its answer."""
        launch = self.launch()
        return launch is not None and launch.process is None and self.abandoned()

    def launch(self) -> Launch | None:
        """What was recorded of the last start, None when nothing was, or nothing whole."""
        try:
            kept = json_text.parse(read_bounded(self.paths.qemu_record))
            process, loader = kept["process"], kept.get("loader")
            return Launch(
                endpoint=_endpoint(kept["endpoint"]),
                hardware=json_text.texts(kept["hardware"]),
                image=json_text.text(kept["image"]),
                process=from_json(process) if process is not None else None,
                loader=from_json(loader) if loader is not None else None,
                missing=tuple(numbers.whole(one, 0, LARGEST) for one in kept.get("missing", ())),
                servers=tuple(from_json(one) if one else None for one in kept.get("servers", ())),
                disk=numbers.whole(kept.get("disk", 0), 0, LARGEST),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def record(self, launch: Launch) -> None:
        """Keep it until the process ends."""
        write_atomic(self.paths.qemu_record, json.dumps(asdict(launch), indent=2).encode() + b"\n")

    def end(self) -> None:
        """Cut the power: ask QEMU to go, then signal it. None there: nothing but what it left is removed.

        Raises HypervisorError when even the last signal does not end it.
        """
        process = self.find()
        if process is not None and not (self._quits(process) or self._obeys(process)):
            raise HypervisorError(f"QEMU (pid {process.pid}) does not end, not even by SIGKILL")
        for path in (self.paths.qmp_socket, self.paths.qemu_record, self.paths.qemu_pid):
            move_aside(path, self.paths.home / SET_ASIDE)

    def _unrecorded(self) -> ProcessIdentity | None:
        """One whose b2d was gone before it could write down which it is: known by the pid file that it was told of."""
        told = str(self.paths.qemu_pid)
        return next((identify(pid) for pid, command in _commands() if told in _after(command, PID_FILE)), None)

    def _pid(self) -> int | None:
        try:
            pid = int(read_text_tail(self.paths.qemu_pid))
        except ValueError:
            return None
        return pid if 0 < pid < PID_LIMIT else None

    def _listens(self) -> bool:
        """True when somebody has our control socket: it is in a private folder, so that is our QEMU."""
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
        return _gone(process)

    @staticmethod
    def _obeys(process: ProcessIdentity) -> bool:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if is_alive(process):
                os.kill(process.pid, number)
            if _gone(process):
                return True
        return False


def _endpoint(kept: dict[str, object]) -> Endpoint:
    """Raises ValueError, TypeError and KeyError for what is none."""
    ssh_port, docker_port = (numbers.port(kept[name]) for name in ("ssh_port", "docker_port"))
    return Endpoint(loopback(kept["address"]), ssh_port, docker_port)


def _commands() -> Iterator[tuple[int, list[str]]]:
    """This user's processes with their command lines: anybody could give another's any."""
    if not PROC.is_dir():
        import psutil

        mine = psutil.process_iter(["cmdline", "uids"])
        yield from ((one.pid, one.info["cmdline"] or []) for one in mine if os.getuid() in (one.info["uids"] or ()))
        return
    for folder in PROC.glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid():
                yield int(folder.name), os.fsdecode((folder / "cmdline").read_bytes()).split("\0")
        except OSError:  # it has ended
            continue


def _after(command: list[str], option: str) -> list[str]:
    """The value of an option; empty where it is not given."""
    return command[command.index(option) + 1 :][:1] if option in command else []


def _gone(process: ProcessIdentity) -> bool:
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
