"""Which accelerator QEMU gets: what will really work here, not what there is a name for."""

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
    """The name for -accel, and for emulation one line that says why; nothing to say otherwise."""

    name: str
    reason: str = ""

    @property
    def emulates(self) -> bool:
        return self.name == "tcg"

    @property
    def cpu(self) -> str:
        """The CPU model; qemu64 is what boots fastest under emulation, where every feature costs."""
        return "host" if self.name in PASSES_CPU_THROUGH else "qemu64"


def choose(asked: str, platform: str = sys.platform, kvm: Path = KVM, cpuinfo: Path = CPUINFO) -> Accelerator:
    """What was asked for, or for "auto" what works on this host."""
    if asked != "auto":
        return Accelerator(asked)
    obstacle = _kvm_obstacle(kvm, cpuinfo) if platform == "linux" else ""
    native = NATIVE.get(platform)
    if native is None:
        obstacle = f"there is no accelerator for {platform}"
    if native is None or obstacle:
        return Accelerator("tcg", f"the machine is emulated, which is several times slower: {obstacle}")
    return Accelerator(native)


def _kvm_obstacle(kvm: Path, cpuinfo: Path) -> str:
    """Why KVM cannot be used, "" when it can.

    A device that opens is no proof: seen in a virtual machine, where it opens, and a guest's kernel
    hangs for want of the CPU's own virtualisation.
    """
    try:
        os.close(os.open(kvm, os.O_RDWR))
    except FileNotFoundError:
        return f"there is no {kvm}"
    except OSError as error:
        return f"{kvm} cannot be opened ({error.strerror})"
    flags = _cpu_flags(cpuinfo)
    if not flags & {"vmx", "svm"}:
        return "the CPU shows neither vmx nor svm"
    return ""


def _cpu_flags(cpuinfo: Path) -> set[str]:
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
