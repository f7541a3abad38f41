"""A bzImage whose kernel lies in it as it will lie in memory: a boot loader loads it, and nobody need unpack it.

For machines that boot by a boot loader on an emulated CPU, which takes minutes to unpack a kernel. The setup code of
the original stays in front; behind it, in place of the unpacker, stand a few instructions that do what the unpacker
does last: turn on long mode with a map of the first 4 GiB, and go on in the kernel.

Outside facts: Documentation/arch/x86/boot.rst of Linux (header, 32-bit and 64-bit boot protocol), and the system
programming guide of the processors' manuals (paging, segment descriptors, EFER).
"""

import struct

SECTOR = 512
SETUP_SECTORS, SYSSIZE = 0x1F1, 0x1F4
CODE32_START, RELOCATABLE = 0x214, 0x234
PAYLOAD, PREF_ADDRESS, INIT_SIZE = 0x248, 0x258, 0x260
BEGIN = 0x100000  # where a loader puts a bzImage that it may not move
HUGE = 2 << 20  # bytes that one entry of a page directory maps
PAGE = 4096
DIRECTORIES = 4  # of 1 GiB each
LOAD_LIMIT = 512 << 20  # bytes from BEGIN to a kernel's end, all of which are written into the image
SEGMENTS = 64
DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, OverflowError, struct.error)
PRESENT_WRITABLE, LARGE = 0x3, 0x80

# Selectors of the table below. The first two are as the boot protocol wants them, and as the setup code had them.
CODE32, DATA, CODE64 = 0x10, 0x18, 0x20
DESCRIPTORS = (0, 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00AF9A000000FFFF)


class UnfitKernelError(ValueError):
    """A kernel that cannot be laid out so."""


def uncompressed_kernel(bzimage: bytes, vmlinux: bytes) -> bytes:
    """A bzImage that holds `vmlinux` (the unpacked ELF kernel of `bzimage`) as it lies in memory.

    Raises UnfitKernelError for a kernel that lies where the loader puts the rest, or is no ELF file for x86-64.
    """
    entry, segments = _loads(vmlinux)
    first = min(address for address, _, _ in segments)
    end = max(address + size for address, _, size in segments)
    if not first <= entry < end < 1 << 32:
        raise UnfitKernelError(f"the kernel is entered at {entry:#x}")
    code = _code(entry)
    if first < BEGIN + len(code) or end > BEGIN + LOAD_LIMIT:
        raise UnfitKernelError(f"the kernel lies at {first:#x}")
    memory = bytearray(code)
    for address, content, _ in sorted(segments):
        memory = memory.ljust(address - BEGIN, b"\0") + content
    memory += bytes(-len(memory) % 16)
    return _setup(bzimage, len(memory), end - BEGIN) + bytes(memory)


def _loads(vmlinux: bytes) -> tuple[int, list[tuple[int, bytes, int]]]:
    """The physical address to enter at, and each segment: its physical address, its content, its size in memory."""
    import io

    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(vmlinux))
        if elf.num_segments() > SEGMENTS:
            raise UnfitKernelError("this is no kernel: it has too many segments")
        found = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        if elf["e_machine"] != "EM_X86_64" or not found:
            raise UnfitKernelError("this is no kernel for x86-64")
        if sum(one["p_filesz"] for one in found) > len(vmlinux):  # several that share their content
            raise UnfitKernelError("this is no kernel: its segments are more than it has")
        return elf["e_entry"], [(one["p_paddr"], one.data(), one["p_memsz"]) for one in found]
    except (ELFError, *DAMAGE) as error:
        raise UnfitKernelError(str(error) or repr(error)) from error


def _code(entry: int) -> bytes:
    """What stands at BEGIN, entered in 32-bit protected mode with the boot parameters in ESI."""
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
    code64_at = BEGIN + len(code32) + 7  # behind the jump itself
    code = code32 + b"\xea" + struct.pack("<IH", code64_at, CODE64)  # jmp CODE64:code64_at
    code += b"\x89\xf6" + b"\xb8" + struct.pack("<I", entry) + b"\xff\xe0"  # mov esi, esi; mov eax, entry; jmp rax
    table = struct.pack(f"<{len(DESCRIPTORS)}Q", *DESCRIPTORS)
    table += struct.pack("<HI", len(table) - 1, descriptors)
    return code.ljust(PAGE, b"\0") + _pages(tables) + table


def _pages(where: int) -> bytes:
    """Page tables, to lie at `where`, that map the first 4 GiB to themselves."""
    pointers, first = where + PAGE, where + 2 * PAGE
    root = struct.pack("<Q", pointers | PRESENT_WRITABLE).ljust(PAGE, b"\0")
    directories = [first + PAGE * number | PRESENT_WRITABLE for number in range(DIRECTORIES)]
    entries = [HUGE * number | PRESENT_WRITABLE | LARGE for number in range(DIRECTORIES * PAGE // 8)]
    return (
        root
        + struct.pack(f"<{DIRECTORIES}Q", *directories).ljust(PAGE, b"\0")
        + struct.pack(f"<{len(entries)}Q", *entries)
    )


def _setup(bzimage: bytes, size: int, in_memory: int) -> bytes:
    """The original's setup code, with a header that has the rest loaded to BEGIN and nothing else put there."""
    setup = bytearray(bzimage[: (bzimage[SETUP_SECTORS] + 1) * SECTOR]) if len(bzimage) > SETUP_SECTORS else bytearray()
    if len(setup) < 2 * SECTOR:
        raise UnfitKernelError("its setup code has no room for a header")
    struct.pack_into("<I", setup, SYSSIZE, size // 16)
    struct.pack_into("<I", setup, CODE32_START, BEGIN)
    setup[RELOCATABLE] = 0
    struct.pack_into("<II", setup, PAYLOAD, 0, 0)
    struct.pack_into("<QI", setup, PREF_ADDRESS, BEGIN, in_memory)
    return bytes(setup)
