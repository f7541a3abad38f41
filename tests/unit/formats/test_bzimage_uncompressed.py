"""A kernel in its memory layout: its header for boot loaders, and the segments."""

import struct

import pytest

from b2d.formats import bzimage_uncompressed
from tests.support.kernel_images import a_bzimage, an_elf, pack

SECTOR = 512
LINKED = 0x1000000  # the link address of Linux


def an_x86_elf(address: int = LINKED, content: bytes = b"kernel " * 999, in_memory: int = 1 << 20) -> bytes:
    """Return an ELF file for x86-64 with two loaded segments, the second behind a gap."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, address, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    data = 64 + 2 * 56
    first = struct.pack("<IIQQQQQQ", 1, 5, data, 0, address, len(content), len(content), 4096)
    second = struct.pack("<IIQQQQQQ", 1, 6, data, 0, address + 0x10000, 8, in_memory, 4096)
    return header + first + second + content


def test_the_segments_are_at_their_link_addresses() -> None:
    bzimage = a_bzimage(pack(an_elf(), "zstd"))
    image = bzimage_uncompressed.uncompressed_kernel(bzimage, an_x86_elf())
    setup = (bzimage[0x1F1] + 1) * SECTOR
    memory = image[setup:]
    offset = LINKED - bzimage_uncompressed.BEGIN
    assert memory[offset:].startswith(b"kernel kernel ")
    assert memory[offset + 0x10000 :].startswith(b"kernel k")
    assert not any(memory[offset - 4096 : offset])


def test_the_header_makes_a_loader_place_the_kernel_at_a_fixed_address() -> None:
    image = bzimage_uncompressed.uncompressed_kernel(a_bzimage(pack(an_elf(), "zstd")), an_x86_elf())
    setup = (image[0x1F1] + 1) * SECTOR
    assert struct.unpack_from("<I", image, 0x1F4)[0] * 16 == len(image) - setup
    assert struct.unpack_from("<I", image, 0x214)[0] == bzimage_uncompressed.BEGIN
    assert image[0x234] == 0  # it is not relocatable
    assert struct.unpack_from("<I", image, 0x260)[0] == LINKED + 0x10000 + (1 << 20) - bzimage_uncompressed.BEGIN


def test_the_page_tables_map_the_first_four_gibibytes_to_themselves() -> None:
    image = bzimage_uncompressed.uncompressed_kernel(a_bzimage(pack(an_elf(), "zstd")), an_x86_elf())
    memory = image[(image[0x1F1] + 1) * SECTOR :]

    def entry(table: int, index: int) -> int:
        value: int = struct.unpack_from("<Q", memory, table - bzimage_uncompressed.BEGIN + 8 * index)[0]
        assert value & 1
        return value & ~0xFFF

    for address in (0, LINKED, 3 << 30 | 5 << 21):
        pointers = entry(bzimage_uncompressed.BEGIN + 4096, 0)
        directory = entry(pointers, address >> 30)
        assert entry(directory, address >> 21 & 511) == address & ~((1 << 21) - 1)


@pytest.mark.parametrize(
    "vmlinux", [b"", b"no ELF file", an_x86_elf(address=0x100000), an_elf()[:64], an_x86_elf(in_memory=4 << 30)]
)
def test_a_kernel_that_cannot_be_laid_out_is_refused(vmlinux: bytes) -> None:
    with pytest.raises(bzimage_uncompressed.UnfitKernelError):
        bzimage_uncompressed.uncompressed_kernel(a_bzimage(pack(an_elf(), "zstd")), vmlinux)
