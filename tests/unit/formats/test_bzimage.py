"""A kernel is extracted from a bzImage exactly as it was packed, or not at all."""

import pytest

from b2d.formats.bzimage import DamagedKernelError, vmlinux
from tests.support.kernel_images import a_bzimage, an_elf, pack


@pytest.mark.parametrize("form", ["zstd", "xz", "gzip"])
@pytest.mark.parametrize("setup_sectors", [0, 3, 39])
def test_the_kernel_is_extracted_as_it_was_packed(form: str, setup_sectors: int) -> None:
    kernel = an_elf()
    assert vmlinux(a_bzimage(pack(kernel, form), setup_sectors)) == kernel


def test_a_kernel_packed_in_an_unknown_format_is_not_extracted() -> None:
    assert vmlinux(a_bzimage(pack(an_elf(), "lz4"))) is None


def test_a_kernel_without_pvh_is_not_extracted() -> None:
    assert vmlinux(a_bzimage(pack(an_elf(note=1), "zstd"))) is None


def test_a_payload_that_is_not_an_elf_file_is_not_extracted() -> None:
    assert vmlinux(a_bzimage(pack(b"MZ no ELF file", "gzip"))) is None


@pytest.mark.parametrize("other", [b"", b"\x7fELF", bytes(5000), a_bzimage(b"12345678", protocol=0x207)])
def test_a_file_that_is_not_a_current_bzimage_is_not_extracted(other: bytes) -> None:
    assert vmlinux(other) is None


@pytest.mark.parametrize("form", ["zstd", "xz", "gzip"])
def test_a_truncated_kernel_is_damaged(form: str) -> None:
    whole = a_bzimage(pack(an_elf(), form))
    with pytest.raises(DamagedKernelError):
        vmlinux(whole[:-60])


@pytest.mark.parametrize("form", ["zstd", "xz", "gzip"])
def test_a_truncated_payload_is_damaged_even_if_the_header_matches(form: str) -> None:
    with pytest.raises(DamagedKernelError):
        vmlinux(a_bzimage(pack(an_elf(), form)[:-8]))


def test_a_payload_with_a_corrupt_byte_is_damaged() -> None:
    payload = bytearray(pack(an_elf(), "xz"))
    payload[len(payload) // 2] ^= 0xFF
    with pytest.raises(DamagedKernelError):
        vmlinux(a_bzimage(bytes(payload)))


def test_a_truncated_elf_file_is_damaged() -> None:
    with pytest.raises(DamagedKernelError):
        vmlinux(a_bzimage(pack(an_elf()[:100], "gzip")))
