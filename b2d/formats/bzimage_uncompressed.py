"""Build a bzImage with the kernel in its memory layout, so that a boot loader loads it and nothing decompresses it.

It is for machines that boot with a boot loader on an emulated CPU, which takes minutes to decompress a kernel. The
setup code of the original is kept. A few instructions replace the decompressor and do its last step: enable long mode
with a map of the first 4 GiB, and jump to the kernel.

Sources: Documentation/arch/x86/boot.rst of Linux (header, 32-bit and 64-bit boot protocol), and the system programming
guide of the processors' manuals (paging, segment descriptors, EFER).
"""

import struct

from b2d.formats.bzimage import SECTOR

SETUP_SECTORS, SYSSIZE = 0x1F1, 0x1F4
CODE32_START, RELOCATABLE = 0x214, 0x234
PAYLOAD, PREF_ADDRESS, INIT_SIZE = 0x248, 0x258, 0x260
BEGIN = 0x100000  # the load address of a bzImage that is not relocatable
HUGE = 2 << 20  # bytes mapped by an entry of a page directory
PAGE = 4096
DIRECTORIES = 4  # of 1 GiB each
LOAD_LIMIT = 512 << 20  # bytes from BEGIN to a kernel's end, all part of the image
SEGMENTS = 64
DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, OverflowError, struct.error)
PRESENT_WRITABLE, LARGE = 0x3, 0x80

# Selectors of the table below. The boot protocol prescribes the first two, which the setup code uses too.
CODE32, DATA, CODE64 = 0x10, 0x18, 0x20
DESCRIPTORS = (0, 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00AF9A000000FFFF)


class UnfitKernelError(ValueError):
    """A kernel that does not fit this layout."""


def uncompressed_kernel(bzimage: bytes, vmlinux: bytes) -> bytes:
    """Return a bzImage with `vmlinux`, the ELF kernel of `bzimage`, in its memory layout.

    Raises UnfitKernelError for a kernel that overlaps the loader's other data, or is not an ELF file for x86-64.
    """
    entry, segments = _loads(vmlinux)
    first = min(address for address, _, _ in segments)
    end = max(address + size for address, _, size in segments)
    if not first <= entry < end < 1 << 32:
        raise UnfitKernelError(f"the kernel has its entry point at {entry:#x}")
    code = _code(entry)
    if first < BEGIN + len(code) or end > BEGIN + LOAD_LIMIT:
        raise UnfitKernelError(f"the kernel has the address {first:#x}")
    memory = bytearray(code)
    for address, content, _ in sorted(segments):
        memory = memory.ljust(address - BEGIN, b"\0") + content
    memory += bytes(-len(memory) % 16)
    return _setup(bzimage, len(memory), end - BEGIN) + bytes(memory)


def _loads(vmlinux: bytes) -> tuple[int, list[tuple[int, bytes, int]]]:
    """Return the physical entry address, and each segment's physical address, content and size in memory."""
    import io

    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(vmlinux))
        if elf.num_segments() > SEGMENTS:
            raise UnfitKernelError("the kernel has too many segments")
        segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        if elf["e_machine"] != "EM_X86_64" or not segments:
            raise UnfitKernelError("the file is not a kernel for x86-64")
        if sum(segment["p_filesz"] for segment in segments) > len(vmlinux):  # several segments share content
            raise UnfitKernelError("the kernel's segments are larger than the file")
        return elf["e_entry"], [(segment["p_paddr"], segment.data(), segment["p_memsz"]) for segment in segments]
    except (ELFError, *DAMAGE) as error:
        raise UnfitKernelError(str(error) or repr(error)) from error


def _code(entry: int) -> bytes:
    """Return the code at BEGIN, which runs in 32-bit protected mode with the boot parameters in ESI."""
    tables = BEGIN + PAGE
    descriptors = tables + (2 + DIRECTORIES) * PAGE
    pointer = descriptors + 8 * len(DESCRIPTORS)
    code32 = b"".join(
        (
            b"\xfa",  # cli
            b"\x0f\x01\x15" + struct.pack("<I", pointer),  # lgdt [pointer]
            b"\x0f\x20\xe0\x83\xc8\x20\x0f\x22\xe0",  # cr4 |= PAE
            b"\xb8" + struct.pack("<I", tables) + b"\x0f\x22\xd8",  # cr3 = tables
            b"\xb9\x80\x00\x00\xc0\x0f\x32\x0f\xba\xe8\x08\x0f\x30",  # EFER |= LME
            b"\x0f\x20\xc0\x0d\x01\x00\x00\x80\x0f\x22\xc0",  # cr0 |= PG | PE
        )
    )
    code64_at = BEGIN + len(code32) + 7  # after the jump itself
    code = code32 + b"\xea" + struct.pack("<IH", code64_at, CODE64)  # jmp CODE64:code64_at
    code += b"\x89\xf6" + b"\xb8" + struct.pack("<I", entry) + b"\xff\xe0"  # mov esi, esi; mov eax, entry; jmp rax
    table = struct.pack(f"<{len(DESCRIPTORS)}Q", *DESCRIPTORS)
    table += struct.pack("<HI", len(table) - 1, descriptors)
    return code.ljust(PAGE, b"\0") + _pages(tables) + table


def _pages(base: int) -> bytes:
    """Return page tables for the address `base` that map the first 4 GiB to themselves."""
    pointers, first = base + PAGE, base + 2 * PAGE
    root = struct.pack("<Q", pointers | PRESENT_WRITABLE).ljust(PAGE, b"\0")
    directories = [first + PAGE * number | PRESENT_WRITABLE for number in range(DIRECTORIES)]
    entries = [HUGE * number | PRESENT_WRITABLE | LARGE for number in range(DIRECTORIES * PAGE // 8)]
    return (
        root
        + struct.pack(f"<{DIRECTORIES}Q", *directories).ljust(PAGE, b"\0")
        + struct.pack(f"<{len(entries)}Q", *entries)
    )


def _setup(bzimage: bytes, size: int, in_memory: int) -> bytes:
    """Return the original's setup code with a header that loads the rest to BEGIN, not relocatable."""
    setup = bytearray(bzimage[: (bzimage[SETUP_SECTORS] + 1) * SECTOR]) if len(bzimage) > SETUP_SECTORS else bytearray()
    if len(setup) < 2 * SECTOR:
        raise UnfitKernelError("the setup code is too short for a header")
    struct.pack_into("<I", setup, SYSSIZE, size // 16)
    struct.pack_into("<I", setup, CODE32_START, BEGIN)
    setup[RELOCATABLE] = 0
    struct.pack_into("<II", setup, PAYLOAD, 0, 0)
    struct.pack_into("<QI", setup, PREF_ADDRESS, BEGIN, in_memory)
    return bytes(setup)
