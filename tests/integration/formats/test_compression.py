"""Decompression never produces more data than its caller allows."""

import gzip
import lzma
import resource
import zlib
from collections.abc import Callable

import pytest
import zstandard

from b2d.formats import compression
from b2d.formats.compression import DecompressionError

CONTENT = bytes(range(256)) * 4000
Decompress = Callable[[bytes, int], bytes]
FORMATS: dict[str, tuple[Callable[[bytes], bytes], Decompress]] = {
    "gzip": (gzip.compress, compression.gunzip),
    "zlib": (zlib.compress, compression.inflate),
    "xz": (lzma.compress, compression.unxz),
    "zstd": (zstandard.ZstdCompressor().compress, compression.unzstd),
}


@pytest.fixture(params=list(FORMATS))
def packed(request: pytest.FixtureRequest) -> tuple[bytes, Decompress]:
    compress, decompress = FORMATS[request.param]
    return compress(CONTENT), decompress


def test_data_is_decompressed_unchanged(packed: tuple[bytes, Decompress]) -> None:
    data, decompress = packed
    assert decompress(data, len(CONTENT)) == CONTENT
    assert decompress(data + b"more", len(CONTENT) + 1) == CONTENT


def test_one_byte_above_the_limit_is_refused(packed: tuple[bytes, Decompress]) -> None:
    data, decompress = packed
    with pytest.raises(DecompressionError, match="larger than"):
        decompress(data, len(CONTENT) - 1)


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, -1])
def test_truncated_data_is_refused(packed: tuple[bytes, Decompress], keep: float) -> None:
    data, decompress = packed
    cut = data[: int(len(data) * keep) if isinstance(keep, float) else keep]
    with pytest.raises(DecompressionError):
        decompress(cut, len(CONTENT))


def test_garbage_is_refused(packed: tuple[bytes, Decompress]) -> None:
    data, decompress = packed
    with pytest.raises(DecompressionError):
        decompress(b"garbage" * 100, len(CONTENT))
    with pytest.raises(DecompressionError):
        decompress(data[: len(data) // 2] + b"\xff" * len(data), len(CONTENT))


@pytest.mark.parametrize("name", list(FORMATS))
def test_gigabytes_of_zeros_do_not_fill_memory(name: str) -> None:
    compress, decompress = FORMATS[name]
    bomb = compress(bytes(1 << 28))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecompressionError, match="larger than"):
        decompress(bomb, 1 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80_000  # KiB


def test_a_frame_that_declares_a_terabyte_allocates_no_memory() -> None:
    frame = bytes.fromhex("28b52ffd") + b"\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(DecompressionError):
        compression.unzstd(frame, 1 << 20)
