"""The choice of QEMU's accelerator: one that really works on this host."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

KVM = Path("/dev/kvm")
CPUINFO = Path("/proc/cpuinfo")
NATIVE = {"linux": "kvm", "darwin": "hvf", "win32": "whpx"}
PASSES_CPU_THROUGH = frozenset({"kvm", "hvf"})


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An accelerator by its name for -accel; `reason` is one line that says why it emulates, else ""."""

    name: str
    reason: str = ""

    @property
    def emulates(self) -> bool:
        """Whether QEMU emulates the CPU."""
        return self.name == "tcg"

    @property
    def cpu(self) -> str:
        """The CPU model; qemu64 boots fastest under emulation, where every feature costs time."""
        return "host" if self.name in PASSES_CPU_THROUGH else "qemu64"


def choose(requested: str, platform: str = sys.platform, kvm: Path = KVM, cpuinfo: Path = CPUINFO) -> Accelerator:
    """Return the requested accelerator, or for "auto" the one that works on this host."""
    if requested != "auto":
        return Accelerator(requested)
    obstacle = _kvm_obstacle(kvm, cpuinfo) if platform == "linux" else ""
    native = NATIVE.get(platform)
    if native is None:
        obstacle = f"QEMU has no accelerator for {platform}"
    if native is None or obstacle:
        return Accelerator("tcg", f"the machine is emulated, and several times slower: {obstacle}")
    return Accelerator(native)


def _kvm_obstacle(kvm: Path, cpuinfo: Path) -> str:
    """Return the reason why KVM cannot be used, "" when it can.

    A device that opens is no proof: in a virtual machine it may open, and a guest's kernel then hangs because the CPU
    has no virtualisation of its own (seen).
    """
    try:
        os.close(os.open(kvm, os.O_RDWR))
    except FileNotFoundError:
        return f"{kvm} does not exist"
    except OSError as error:
        return f"{kvm} cannot be opened ({error.strerror})"
    flags = _cpu_flags(cpuinfo)
    if not flags & {"vmx", "svm"}:
        return "the CPU has neither vmx nor svm"
    return ""


def _cpu_flags(cpuinfo: Path) -> set[str]:
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
