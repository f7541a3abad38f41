"""Start of a QEMU machine's process, with the limitations of this host."""

import os
import re
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from b2d.drivers.qemu import accelerator, command_line, qemu_img, shared_folders, virtiofsd
from b2d.drivers.qemu import sandbox as qemu_sandbox
from b2d.drivers.qemu.accelerator import Accelerator
from b2d.drivers.qemu.command_line import Held
from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.drivers.qemu.qmp import Qmp, QmpError
from b2d.errors import HypervisorError, PortInUseError
from b2d.guest import folder_paths, share_policy
from b2d.host import fd_limits, processes, seccomp
from b2d.host.files import read_text_tail, write_atomic
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify
from b2d.machine_names import command_for
from b2d.models import Endpoint, Image, MachineSpec
from b2d.network import port_allocation
from b2d.paths import MachinePaths

LAUNCH_TIMEOUT_S = 60.0
LAUNCH_INTERVAL_S = 0.005
VERSION_TIMEOUT_S = 10.0
PARALLEL_EMULATION = (8, 1)  # before it several emulated CPUs crash some guests (seen on 7.2): deba78709a
GROUP_AND_OTHERS = 0o077
FORWARD_FAILURE = "Could not set up host forwarding rule"  # QEMU's words where it cannot listen on a port


class Start(NamedTuple):
    """How QEMU is started: further arguments, and descriptors that they name. The default is a boot."""

    arguments: Sequence[str] = ()
    descriptors: Sequence[int] = ()
    held: Held | None = None  # a guest that holds, with nothing of the machine
    from_template: bool = False  # True: the guest continues from such a one

    @property
    def boots(self) -> bool:
        """True if the guest boots and runs; else this b2d has more to do before it runs."""
        return not (self.arguments or self.held is not None)


COLD = Start()


@dataclass(frozen=True, slots=True)
class Launcher:
    """Everything that is known before the start of a machine.

    `accelerator` and `mount_type` are the settings of those names; `saved` is the hardware of a machine that is to be
    resumed.
    """

    spec: MachineSpec
    paths: MachinePaths
    image: Callable[[], Image]
    accelerator: str
    mount_type: str = "auto"
    saved: Sequence[str] = ()

    def check(self) -> None:
        """Raise HypervisorError unless QEMU is installed and this Python can control it."""
        if not hasattr(socket, "AF_UNIX"):  # Python on Windows
            raise HypervisorError(
                "QEMU needs Unix sockets, which Python lacks on this host",
                hint=command_for("up --driver virtualbox", self.spec.name),
            )
        for program in (command_line.PROGRAM, qemu_img.PROGRAM):
            if shutil.which(program) is None:
                raise processes.ProgramNotFoundError(f"{program} is not installed", hint="b2d doctor --fix")

    def limitations(self) -> list[str]:
        """Return what the machine will not get, one line each."""
        chosen = accelerator.choose(self.accelerator)
        lines = [chosen.reason] if chosen.reason else []
        if self.spec.cpus > 1 and self._cpu_count(chosen) == 1:
            lines.append(
                f"the machine gets 1 CPU instead of {self.spec.cpus}: "
                "QEMU before 8.1 cannot emulate several without crashing some guests"
            )
        if self.spec.folders and self.mount_type == shared_folders.VIRTIOFS and not self._virtiofsd():
            lines.append("folders of this host are shared by 9p: virtiofs needs QEMU 8.2 and virtiofsd 1.11 or newer")
        return lines

    def plan(self) -> Launch:
        """Return the record of a start. A saved state depends on the hardware, not on the ports of this host."""
        return self._plan(self._virtiofsd())

    def held_hardware(self) -> list[str]:
        """Return the arguments of a guest that holds, without those that belong to one machine."""
        folders = ("/shared",) * len(self.spec.folders)
        spec = self.spec._replace(name="", address="", ssh_port=0, docker_port=0, engine_port=0, folders=folders)
        other = replace(self, spec=spec._replace(tls=True, restrict=False), paths=MachinePaths(Path("/")))
        numbers = range(len(folders)) if self._virtiofsd() else None
        shared = shared_folders.build_arguments(other.spec, other.paths, (), numbers)
        home, image = str(self.paths.home), self.image().sha256
        words = [*other._arguments(other.spec, Held()), *shared]
        return [word.replace(home, "").replace(image, "") for word in words]

    def _plan(self, program: str) -> Launch:
        spec = self.spec
        return Launch(
            endpoint=Endpoint(spec.address, spec.ssh_port, spec.forwarded_docker_port),
            hardware=[
                *self._arguments(spec._replace(address="", ssh_port=0, docker_port=0, engine_port=0)),
                *shared_folders.build_arguments(spec, self.paths, (), range(len(spec.folders)) if program else None),
            ],
            image=self.image().sha256,
            missing=tuple(shared_folders.find_missing(spec.folders, self._share_refusal)),
        )

    def launch(self, start: Start = COLD) -> None:
        """Start the process and record it. Raises HypervisorError; nothing runs then."""
        ports = {self.spec.ssh_port, self.spec.docker_port, self.spec.forwarded_docker_port}  # the agent's included
        port_allocation.require_free(self.spec.address, sorted(ports))
        process = QemuProcess(self.paths)
        program = self._virtiofsd()
        loader = None if start.boots else identify(os.getpid())
        holds = start.held is not None or start.from_template
        plan = self._plan(program)._replace(loader=loader, disk=process.disk(), holds=holds)
        if start.held is not None:
            plan = plan._replace(missing=tuple(range(len(self.spec.folders))))
        _refuse_open_folder(self.paths)
        for log in (self.paths.serial_log, self.paths.qemu_log):
            write_atomic(log, b"")  # QEMU would make it readable by others
        shared_folders.prepare(self.paths, plan.missing)
        if start.boots or holds:
            self.paths.taken.unlink(missing_ok=True)  # the guest mounts them when it boots
        elif program and plan.missing:
            write_atomic(self.paths.taken, b"")  # so that the user is told: the guest still has them mounted
        process.record(plan)
        try:
            shared = shared_folders.resolve_paths(self.spec)
            with shared_folders.start_servers(program, shared, self.paths, plan.missing) as served:
                servers = tuple(server.process for server in served or ())
                self._run(plan._replace(servers=servers), served, start)
        except BaseException:
            process.end()
            raise

    def _run(self, plan: Launch, served: Sequence[virtiofsd.VirtiofsServer] | None, start: Start) -> None:
        """Start QEMU as a detached process, and return when it is ready.

        Raises HypervisorError and WaitTimeoutError.
        """
        descriptors = None if served is None else [server.connection.fileno() for server in served]
        shared = shared_folders.build_arguments(
            shared_folders.resolve_paths(self.spec), self.paths, plan.missing, descriptors
        )
        command = [*self._arguments(self.spec, start.held), *shared, *start.arguments]
        passed = [*(descriptors or ()), *start.descriptors]
        sandbox = qemu_sandbox.ARGUMENTS
        ended = self._start([*sandbox, *command], plan, passed)
        if ended is not None and sandbox and qemu_sandbox.is_refused(ended, read_text_tail(self.paths.qemu_log)):
            write_atomic(self.paths.qemu_log, b"b2d: this QEMU has no sandbox and is started without it\n")
            ended = self._start(command, plan, passed)
        if ended is not None:
            raise self._failure(ended, served is not None)

    def _start(self, arguments: Sequence[str], plan: Launch, pass_fds: Sequence[int]) -> int | None:
        """Return QEMU's exit code when it ended, which its log explains; None when it runs.

        QEMU cannot go to the background by itself: its sandbox forbids new processes. So it is started in a session
        of its own, in the machine's folder, and is ready when its control socket greets.
        """
        command = [command_line.PROGRAM, *arguments]
        qemu = seccomp.call_confined(
            lambda: processes.watch_in_background(command, self.paths.qemu_log, os.environ, pass_fds)
        )
        fd_limits.raise_limit(qemu.pid)
        if (process := identify(qemu.pid)) is not None:
            QemuProcess(self.paths).record(plan._replace(process=process))

        def settled() -> bool:
            return qemu.poll() is not None or qmp_greets(self.paths.qmp_socket)

        wait_until(settled, condition="QEMU's start", timeout_s=LAUNCH_TIMEOUT_S, interval_s=LAUNCH_INTERVAL_S)
        return qemu.poll()

    def _failure(self, exit_code: int, with_servers: bool) -> HypervisorError:
        """Return the error for a QEMU that has ended, with the ends of the logs, virtiofsd's first."""
        program, name = command_line.PROGRAM, self.spec.name
        server_log = read_text_tail(self.paths.virtiofsd_log) if with_servers else ""
        log = (server_log + read_text_tail(self.paths.qemu_log)).strip()
        last_line = log.splitlines()[-1].removeprefix(f"{program}: ") if log else ""
        kind = PortInUseError if FORWARD_FAILURE in last_line else HypervisorError
        return kind(
            f"QEMU did not start: {last_line or exit_code}",
            hint=shared_folders.hint_for_log(last_line, name) or command_for("logs --hypervisor", name),
            details=log,
        )

    def _arguments(self, spec: MachineSpec, held: Held | None = None) -> list[str]:
        chosen = accelerator.choose(self.accelerator)
        return command_line.build_arguments(spec, self.image(), self.paths, chosen, self._cpu_count(chosen), held)

    def _virtiofsd(self) -> str:
        """Return the path of virtiofsd; "" when folders are shared by 9p, as by a machine that was saved so."""
        if not self.spec.folders or self.mount_type == shared_folders.PLAN9 or "-fsdev" in self.saved:
            return ""
        if not self.image().boots_directly:  # another project's: an older kernel does not know virtiofs
            return ""
        program = virtiofsd.find()
        return program if program and _version() >= folder_paths.QEMU else ""

    def _share_refusal(self, path: str) -> str:
        refusal = share_policy.refusal_inside if self.saved else share_policy.refusal
        return refusal(path, self.paths.home)

    def _cpu_count(self, chosen: Accelerator) -> int:
        wanted = self.spec.cpus or os.cpu_count() or 1
        if wanted > 1 and chosen.emulates and _version() < PARALLEL_EMULATION:
            return 1
        return wanted


def qmp_greets(path: Path) -> bool:
    """Tell whether QEMU is ready: it accepts connections on its control socket from then on."""
    try:
        Qmp(path).close()
    except QmpError:
        return False
    return True


def _version() -> tuple[int, int]:
    """Return QEMU's version; (0, 0) when it cannot be read."""
    output = processes.check([command_line.PROGRAM, "--version"], timeout_s=VERSION_TIMEOUT_S)
    match = re.search(rb"version (\d{1,9})\.(\d{1,9})", output)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _refuse_open_folder(paths: MachinePaths) -> None:
    """Raise HypervisorError unless the folder is private: access to the control socket controls the machine."""
    status = paths.folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & GROUP_AND_OTHERS:
        raise HypervisorError(f"{paths.folder} must be private (mode 0700), because of QEMU's control socket")
