"""What makes machines start, and start quickly: VirtualBox with its driver, and the CPU's virtualisation."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.errors import B2dError
from b2d.host import processes

ASK_TIMEOUT_S = 5.0
HYPER_V = ("powershell", "-NoProfile", "-Command", "(Get-CimInstance Win32_ComputerSystem).HypervisorPresent")


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where Linux tells what the CPU can do."""

    kvm: Path = Path("/dev/kvm")
    cpuinfo: Path = Path("/proc/cpuinfo")

    def remedy(self) -> str:
        """What lets KVM be used here."""
        flags = self._flags()
        if not flags & {"vmx", "svm"}:
            if "hypervisor" in flags:  # the CPU of a virtual machine
                return "turn on nested virtualisation for this machine, where it runs"
            return "turn on VT-x (Intel) or AMD-V (AMD) in this computer's firmware"
        if not self.kvm.exists():
            return f"sudo modprobe {'kvm_intel' if 'vmx' in flags else 'kvm_amd'}"
        if not os.access(self.kvm, os.R_OK | os.W_OK):
            return f"sudo usermod -aG {self._group()} $USER, then log in anew"
        return ""

    def _group(self) -> str:
        try:
            return self.kvm.group()
        except (OSError, KeyError):
            return "kvm"

    def _flags(self) -> set[str]:
        try:
            text = self.cpuinfo.read_text(errors="replace")
        except OSError:
            return set()
        line = next((line for line in text.splitlines() if line.startswith("flags")), "")
        return set(line.partition(":")[2].split())


def virtualbox(ask: Callable[[], str], wanted: bool) -> Finding:
    """VirtualBox, its version and its driver; bad where machines are to be its own."""
    try:
        return ok("virtualbox", ask())
    except B2dError as error:
        if wanted:
            return Finding("virtualbox", Verdict.BAD, error.message, error.hint)
        return Finding("virtualbox", Verdict.GOOD, f"{error.message}: machines are QEMU's", error.hint)


def network_driver(device: Path, works: bool) -> Finding | None:
    """On Linux the driver of VirtualBox's networks; without it a machine has no network with this host alone."""
    if not works or device.exists():
        return None
    message = f"there is no {device}: machines have no network with this host alone"
    return warning("virtualbox network", message, "sudo modprobe vboxnetadp")


def acceleration(ask: Callable[[], tuple[str, str]], remedy: Callable[[], str]) -> Finding:
    """What QEMU's machines run with, and why it is no faster."""
    try:
        name, reason = ask()
    except B2dError as error:
        return warning("acceleration", error.message, error.hint)
    return warning("acceleration", f"{name}: {reason}", remedy()) if reason else ok("acceleration", name)


def hyper_v(present: Callable[[], bool]) -> Finding:
    """On Windows: whether Microsoft's hypervisor has the CPU's virtualisation for itself."""
    if not present():
        return ok("hyper-v", "it is off")
    message = "it has the CPU's virtualisation, and VirtualBox's machines are slow beside it"
    return warning("hyper-v", message, "as administrator: bcdedit /set hypervisorlaunchtype off, then restart Windows")


def windows_hypervisor() -> bool:
    """Asks Windows; False where it does not say."""
    try:
        return b"True" in processes.run(HYPER_V, timeout_s=ASK_TIMEOUT_S).stdout
    except B2dError:
        return False
