"""Checks of VirtualBox with its drivers, and of the CPU's virtualisation."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.doctor.programs import ASK_TIMEOUT_S
from b2d.errors import B2dError
from b2d.host import processes

HYPER_V = ("powershell", "-NoProfile", "-Command", "(Get-CimInstance Win32_ComputerSystem).HypervisorPresent")


@dataclass(frozen=True, slots=True)
class Hardware:
    """The files in which Linux describes the CPU's virtualisation."""

    kvm: Path = Path("/dev/kvm")
    cpuinfo: Path = Path("/proc/cpuinfo")

    def remedy(self) -> str:
        """Return what makes KVM usable on this host, "" when it is usable."""
        flags = self._flags()
        if not flags & {"vmx", "svm"}:
            if "hypervisor" in flags:  # the CPU of a virtual machine
                return "enable nested virtualisation for this virtual machine on its host"
            return "enable VT-x (Intel) or AMD-V (AMD) in this host's firmware"
        if not self.kvm.exists():
            return f"sudo modprobe {'kvm_intel' if 'vmx' in flags else 'kvm_amd'}"
        if not os.access(self.kvm, os.R_OK | os.W_OK):
            return f"sudo usermod -aG {self._group()} $USER, then log in again"
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


def check_virtualbox(query: Callable[[], str], wanted: bool) -> Finding:
    """Check VirtualBox, its version and its driver; a problem is bad when machines need it."""
    try:
        return ok("virtualbox", query())
    except B2dError as error:
        if wanted:
            return Finding("virtualbox", Verdict.BAD, error.message, error.hint)
        return Finding("virtualbox", Verdict.GOOD, f"{error.message}: machines use QEMU", error.hint)


def check_network_driver(device: Path, works: bool) -> Finding | None:
    """Check the driver of VirtualBox's host-only networks on Linux; None when there is nothing to report."""
    if not works or device.exists():
        return None
    message = f"there is no {device}: machines have no host-only network"
    return warning("virtualbox network", message, "sudo modprobe vboxnetadp")


def check_acceleration(query: Callable[[], tuple[str, str]], remedy: Callable[[], str]) -> Finding:
    """Check QEMU's accelerator, and why it is not a faster one."""
    try:
        name, reason = query()
    except B2dError as error:
        return warning("acceleration", error.message, error.hint)
    return warning("acceleration", f"{name}: {reason}", remedy()) if reason else ok("acceleration", name)


def check_hyper_v(present: Callable[[], bool]) -> Finding:
    """Check on Windows whether Microsoft's hypervisor occupies the CPU's virtualisation."""
    if not present():
        return ok("hyper-v", "off")
    message = "Hyper-V occupies the CPU's virtualisation, which makes VirtualBox's machines slow"
    return warning("hyper-v", message, "as administrator: bcdedit /set hypervisorlaunchtype off, then restart Windows")


def has_windows_hypervisor() -> bool:
    """Ask Windows whether its hypervisor is active; return False when it does not answer."""
    try:
        return b"True" in processes.run(HYPER_V, timeout_s=ASK_TIMEOUT_S).stdout
    except B2dError:
        return False
