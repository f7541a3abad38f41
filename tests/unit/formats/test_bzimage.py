"""A kernel is extracted from a bzImage exactly as it was packed, or not at all."""

import pytest

from b2d.formats.bzimage import DamagedKernelError, vmlinux
from tests.support.kernel_images import a_bzimage, an_elf, pack


@pytest.mark.parametrize("form", ["zstd", "xz", "gzip"])
@pytest.mark.parametrize("setup_sectors", [0, 3, 39])
def test_the_kernel_comes_out_as_it_was_packed(form: str, setup_sectors: int) -> None:
    kernel = an_elf()
    assert vmlinux(a_bzimage(pack(kernel, form), setup_sectors)) == kernel


def test_a_kernel_packed_in_an_unknown_way_unpacks_itself() -> None:
    assert vmlinux(a_bzimage(pack(an_elf(), "lz4"))) is None


def test_a_kernel_without_pvh_unpacks_itself_since_no_hypervisor_could_enter_it() -> None:
    assert vmlinux(a_bzimage(pack(an_elf(note=1), "zstd"))) is None


def test_what_unpacks_to_something_else_than_an_elf_file_is_left_alone() -> None:
    assert vmlinux(a_bzimage(pack(b"MZ no ELF file", "gzip"))) is None


@pytest.mark.parametrize("other", [b"", b"\x7fELF", bytes(5000), a_bzimage(b"12345678", protocol=0x207)])
def test_what_is_no_bzimage_of_today_is_left_alone(other: bytes) -> None:
    assert vmlinux(other) is None


@pytest.mark.parametrize("form", ["zstd", "xz", "gzip"])
def test_a_kernel_that_is_cut_off_is_damaged(form: str) -> None:
    whole = a_bzimage(pack(an_elf(), form))
    with pytest.raises(DamagedKernelError):
        vmlinux(whole[:-60])


@pytest.mark.parametrize("form", ["zstd", "xz", "gzip"])
def test_a_payload_that_is_cut_off_is_damaged_even_where_the_header_agrees(form: str) -> None:
    with pytest.raises(DamagedKernelError):
        vmlinux(a_bzimage(pack(an_elf(), form)[:-8]))


def test_a_payload_with_a_wrong_byte_is_damaged() -> None:
    payload = bytearray(pack(an_elf(), "xz"))
    payload[len(payload) // 2] ^= 0xFF
    with pytest.raises(DamagedKernelError):
        vmlinux(a_bzimage(bytes(payload)))


def test_an_elf_file_that_ends_within_its_own_tables_is_damaged() -> None:
    with pytest.raises(DamagedKernelError):
        vmlinux(a_bzimage(pack(an_elf()[:100], "gzip")))
