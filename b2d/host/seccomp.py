"""A system call filter for programs that act for a guest, which keeps them from creating setuid files.

A container may request a setuid file in a shared folder, and QEMU and virtiofsd would create it as the user. Both run
with a filter that the kernel keeps over exec: modes with setuid or setgid, and device nodes, are refused with EPERM. A
mode is a plain argument of chmod, open and the like, so the kernel's filter can see it.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

# linux/filter.h, linux/seccomp.h, linux/prctl.h
LOAD, AND, RETURN = 0x20, 0x54, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K
JUMP, JUMP_EQUAL, JUMP_SET = 0x05, 0x15, 0x45  # BPF_JMP with BPF_JA, BPF_JEQ and BPF_JSET
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with EPERM
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data, bytes
SET_SECCOMP, MODE_FILTER, DROP_CAPABILITY, NO_NEW_PRIVILEGES = 22, 2, 24, 38

SET_IDS = 0o6000  # S_ISUID, S_ISGID
DEVICE = 0o020000  # in the modes of character and block devices only
MAKES_FILE = 0o100 | 0o20000000  # O_CREAT, and O_TMPFILE without O_DIRECTORY: without them the mode is ignored
X32 = 0x40000000  # in the numbers of x86-64's calls with 32-bit pointers

# Capabilities that a QEMU of root's does not need, by number (linux/capability.h): SYS_MODULE, SYS_RAWIO, SYS_PTRACE,
# SYS_ADMIN, SYS_BOOT, SYS_TIME, MKNOD, SETFCAP (files' capabilities are setuid by another name), MAC_*, SYSLOG, BPF
UNNEEDED_CAPABILITIES = (16, 17, 19, 21, 22, 25, 27, 31, 32, 33, 34, 39)


@dataclass(frozen=True, slots=True)
class Call:
    """A system call with the argument of its mode, and of the flags that make the mode count."""

    number: int
    mode: int
    refused: int = SET_IDS
    flags: int | None = None


def _calls(numbers: dict[str, int]) -> tuple[Call, ...]:
    shapes = {
        "chmod": (1, SET_IDS, None),
        "fchmod": (1, SET_IDS, None),
        "fchmodat": (2, SET_IDS, None),
        "fchmodat2": (2, SET_IDS, None),
        "creat": (1, SET_IDS, None),
        "open": (2, SET_IDS, 1),
        "openat": (3, SET_IDS, 2),
        "mkdir": (1, SET_IDS, None),
        "mkdirat": (2, SET_IDS, None),
        "mknod": (1, SET_IDS | DEVICE, None),
        "mknodat": (2, SET_IDS | DEVICE, None),
    }
    return tuple(Call(number, *shapes[name]) for name, number in numbers.items())


# by AUDIT_ARCH (linux/audit.h); each kernel has the calls of its 32-bit programs too
X86_64 = _calls(
    {"open": 2, "mkdir": 83, "creat": 85, "chmod": 90, "fchmod": 91, "mknod": 133, "openat": 257, "mkdirat": 258}
    | {"mknodat": 259, "fchmodat": 268, "fchmodat2": 452}
)
I386 = _calls(
    {"open": 5, "creat": 8, "mknod": 14, "chmod": 15, "mkdir": 39, "fchmod": 94, "openat": 295, "mkdirat": 296}
    | {"mknodat": 297, "fchmodat": 306, "fchmodat2": 452}
)
AARCH64 = _calls({"mknodat": 33, "mkdirat": 34, "fchmod": 52, "fchmodat": 53, "openat": 56, "fchmodat2": 452})
CALLS = {0xC000003E: X86_64, 0x40000003: I386, 0xC00000B7: AARCH64}
MACHINES = ("x86_64", "aarch64")  # of uname; both are little-endian


def is_supported() -> bool:
    """Return whether this kernel supports the filter, on a known architecture."""
    return sys.platform == "linux" and os.uname().machine in MACHINES and _prctl(21) >= 0  # PR_GET_SECCOMP


def program() -> bytes:
    """Return the filter: an array of struct sock_filter."""
    code: list[bytes] = []
    for architecture, calls in CALLS.items():
        block = [_step(LOAD, NUMBER), _step(AND, ~X32 & 0xFFFFFFFF), *_checks(calls), _step(RETURN, ALLOW)]
        code += [_step(LOAD, ARCHITECTURE), _step(JUMP_EQUAL, architecture, 1, 0), _step(JUMP, len(block)), *block]
    return b"".join([*code, _step(RETURN, ALLOW)])


def _checks(calls: tuple[Call, ...]) -> Iterator[bytes]:
    """Yield the instructions that check the mode of each call and return."""
    for call in calls:
        steps = [] if call.flags is None else [_step(LOAD, _argument(call.flags)), _step(JUMP_SET, MAKES_FILE, 0, 3)]
        steps += [_step(LOAD, _argument(call.mode)), _step(JUMP_SET, call.refused, 0, 1), _step(RETURN, REFUSE)]
        steps.append(_step(RETURN, ALLOW))
        yield _step(JUMP_EQUAL, call.number, 0, len(steps))
        yield from steps


def _argument(index: int) -> int:
    return ARGUMENTS + 8 * index  # little-endian: the low half comes first


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


class _Program(ctypes.Structure):
    """The struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def confine_thread() -> bool:
    """Put the calling thread, and programs that it starts from now on, behind the filter for good.

    As root, also drop unneeded capabilities of those programs. Returns False, and changes nothing, where the kernel has
    no such filter.
    """
    if not is_supported():
        return False
    for capability in UNNEEDED_CAPABILITIES:
        _prctl(DROP_CAPABILITY, capability)  # only root has any, and may drop them
    code = program()
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p).value)
    return _prctl(NO_NEW_PRIVILEGES, 1) == 0 and _prctl(SET_SECCOMP, MODE_FILTER, ctypes.addressof(filter_program)) == 0


def call_confined(act: Callable[[], Result]) -> Result:
    """Call `act` in a thread behind the filter, so that programs that it starts are behind it too.

    Without filter support it is called all the same. Its errors are passed on.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, initializer=confine_thread) as thread:
        return thread.submit(act).result()


def _prctl(option: int, first: int = 0, second: int = 0) -> int:
    words = [ctypes.c_ulong(word) for word in (first, second, 0, 0)]
    return int(ctypes.CDLL(None, use_errno=True).prctl(option, *words))
