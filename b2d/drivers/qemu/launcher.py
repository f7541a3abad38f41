"""How a QEMU machine's process is begun, and what it cannot be given here."""

import os
import re
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from b2d.drivers.qemu import accelerator, command_line, qemu_img, shared_folders, virtiofsd
from b2d.drivers.qemu import sandbox as qemu_sandbox
from b2d.drivers.qemu.accelerator import Accelerator
from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.drivers.qemu.qmp import Qmp, QmpError
from b2d.errors import HypervisorError
from b2d.guest import folder_paths, share_policy
from b2d.host import fd_limits, processes, seccomp
from b2d.host.files import read_text_tail, write_atomic
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify
from b2d.models import Endpoint, Image, MachineSpec
from b2d.network import port_allocation
from b2d.paths import MachinePaths

LAUNCH_TIMEOUT_S = 60.0
LAUNCH_INTERVAL_S = 0.005
VERSION_TIMEOUT_S = 10.0
PARALLEL_EMULATION = (
    8,
    1,
)  # before it, several emulated CPUs crash some guests: seen on 7.2, fixed by deba78709a
OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Launcher:
    """Everything that is known before the start; `accelerator` and `mount_type` are the settings of that name, and
    `saved` the hardware of a machine that is to go on from saved."""

    spec: MachineSpec
    paths: MachinePaths
    image: Callable[[], Image]
    accelerator: str
    mount_type: str = "auto"
    saved: Sequence[str] = ()

    def check(self) -> None:
        """Raise HypervisorError unless QEMU is there, and this Python can speak to it."""
        if not hasattr(socket, "AF_UNIX"):  # Python on Windows
            raise HypervisorError(
                "Python has no Unix sockets here, and QEMU is controlled by one",
                hint="b2d up --driver virtualbox",
            )
        for program in (command_line.PROGRAM, qemu_img.PROGRAM):
            if shutil.which(program) is None:
                raise processes.ProgramNotFoundError(f"{program} is not installed", hint="b2d doctor --fix")

    def limitations(self) -> list[str]:
        """What the machine will not get, one line each."""
        chosen = accelerator.choose(self.accelerator)
        found = [chosen.reason] if chosen.reason else []
        if self.spec.cpus > 1 and self._cpus(chosen) == 1:
            found.append(
                f"the machine gets 1 CPU instead of {self.spec.cpus}: "
                "QEMU before 8.1 cannot emulate several without crashing some guests"
            )
        if self.spec.folders and self.mount_type == shared_folders.VIRTIOFS and not self._virtiofsd():
            found.append("folders of this host are had by 9p: virtiofs wants QEMU 8.2, and virtiofsd 1.11, or newer")
        return found

    def plan(self) -> Launch:
        """What a start would be. A saved state depends on the hardware, not on the ports of this host."""
        return self._planned(self._virtiofsd())

    def _planned(self, program: str) -> Launch:
        spec = self.spec
        return Launch(
            endpoint=Endpoint(spec.address, spec.ssh_port, spec.forwarded_docker_port),
            hardware=[
                *self._arguments(replace(spec, address="", ssh_port=0, docker_port=0, engine_port=0)),
                *shared_folders.arguments(spec, self.paths, (), range(len(spec.folders)) if program else None),
            ],
            image=self.image().sha256,
            missing=tuple(shared_folders.missing(spec.folders, self._refusal)),
        )

    def launch(self, *extra: str) -> None:
        """Start the process and record which it is. Raises HypervisorError; nothing runs then."""
        self.check()
        ports = {self.spec.ssh_port, self.spec.docker_port, self.spec.forwarded_docker_port}  # the agent's among them
        port_allocation.require_free(self.spec.address, sorted(ports))
        process = QemuProcess(self.paths)
        program = self._virtiofsd()
        plan = replace(self._planned(program), loader=identify(os.getpid()) if extra else None, disk=process.disk())
        _refuse_open_folder(self.paths)
        for log in (self.paths.serial_log, self.paths.qemu_log):
            write_atomic(log, b"")  # QEMU would make it readable by others
        shared_folders.prepare(self.paths, plan.missing)
        if not extra:
            self.paths.taken.unlink(missing_ok=True)  # it mounts them when it boots
        elif program and plan.missing:
            write_atomic(self.paths.taken, b"")  # so that it is told of: the guest has them still
        process.record(plan)
        try:
            shared = shared_folders.resolved(self.spec)
            with shared_folders.serving(program, shared, self.paths, plan.missing) as served:
                servers = tuple(one.process for one in served or ())
                self._run(replace(plan, servers=servers), served, extra)
        except BaseException:
            process.end()
            raise

    def _run(self, plan: Launch, served: Sequence[virtiofsd.VirtiofsServer] | None, extra: Sequence[str]) -> None:
        """Start QEMU beside b2d, and return when it has set everything up.

        Raises HypervisorError and WaitTimeoutError.
        """
        numbers = None if served is None else [one.connection.fileno() for one in served]
        shared = shared_folders.arguments(shared_folders.resolved(self.spec), self.paths, plan.missing, numbers)
        command = [*self._arguments(self.spec), *shared, *extra]
        sandbox = qemu_sandbox.ARGUMENTS
        ended = self._started([*sandbox, *command], plan, numbers or ())
        if ended is not None and sandbox and qemu_sandbox.is_refused(ended, read_text_tail(self.paths.qemu_log)):
            write_atomic(self.paths.qemu_log, b"b2d: this QEMU has no sandbox, and is started without\n")
            ended = self._started(command, plan, numbers or ())
        if ended is not None:
            raise self._failure(ended, served is not None)

    def _started(self, arguments: Sequence[str], plan: Launch, pass_fds: Sequence[int]) -> int | None:
        """Its exit code when it ended, and its log tells why; None when it runs.

        QEMU cannot go to the background by itself: its sandbox lets no process be made. So it is started in a session
        of its own, in the machine's folder, and is ready when its control socket greets.
        """
        command = [command_line.PROGRAM, *arguments]
        qemu = seccomp.call_confined(
            lambda: processes.watch_in_background(command, self.paths.qemu_log, os.environ, pass_fds)
        )
        fd_limits.raise_limit(qemu.pid)
        if (process := identify(qemu.pid)) is not None:
            QemuProcess(self.paths).record(replace(plan, process=process))

        def settled() -> bool:
            return qemu.poll() is not None or qmp_greets(self.paths.qmp_socket)

        wait_until(settled, condition="QEMU's start", timeout_s=LAUNCH_TIMEOUT_S, interval_s=LAUNCH_INTERVAL_S)
        return qemu.poll()

    def _failure(self, exit_code: int, with_servers: bool) -> HypervisorError:
        """What to raise when QEMU has ended, with its last words; a virtiofsd's come before them."""
        program = command_line.PROGRAM
        theirs = read_text_tail(self.paths.virtiofsd_log) if with_servers else ""
        said = (theirs + read_text_tail(self.paths.qemu_log)).strip()
        last = said.splitlines()[-1].removeprefix(f"{program}: ") if said else ""
        return HypervisorError(
            f"QEMU did not start: {last or exit_code}",
            hint=shared_folders.hint(last) or "b2d logs --hypervisor",
            details=said,
        )

    def _arguments(self, spec: MachineSpec) -> list[str]:
        chosen = accelerator.choose(self.accelerator)
        return command_line.arguments(spec, self.image(), self.paths, chosen, self._cpus(chosen))

    def _virtiofsd(self) -> str:
        """The program that serves folders; "" where they are had by 9p, as by a machine that was saved so."""
        if not self.spec.folders or self.mount_type == shared_folders.PLAN9 or "-fsdev" in self.saved:
            return ""
        program = virtiofsd.find()
        return program if program and _version() >= folder_paths.QEMU else ""

    def _refusal(self, path: str) -> str:
        refusal = share_policy.refusal_inside if self.saved else share_policy.refusal
        return refusal(path, self.paths.home)

    def _cpus(self, chosen: Accelerator) -> int:
        wanted = self.spec.cpus or os.cpu_count() or 1
        if wanted > 1 and chosen.emulates and _version() < PARALLEL_EMULATION:
            return 1
        return wanted


def qmp_greets(path: Path) -> bool:
    """True when QEMU has set everything up: it accepts on its control socket from then on."""
    try:
        Qmp(path).close()
    except QmpError:
        return False
    return True


def _version() -> tuple[int, int]:
    """QEMU's; (0, 0) where it says nothing of the kind."""
    said = processes.check([command_line.PROGRAM, "--version"], timeout_s=VERSION_TIMEOUT_S)
    found = re.search(rb"version (\d{1,9})\.(\d{1,9})", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _refuse_open_folder(paths: MachinePaths) -> None:
    """Who can open the control socket owns the machine: its folder must be ours alone."""
    found = paths.folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & OTHERS:
        raise HypervisorError(f"{paths.folder} must be yours alone (mode 0700), for QEMU's control socket")
