"""Decompress foreign data with a limit on the output.

A few KiB can expand to GiB, so every function takes the largest size that its caller accepts.
"""

from typing import Protocol

MEMORY_LIMIT = 256 << 20  # bytes of a decoder's own memory; xz -9 needs 65 MiB, zstd --ultra -22 128 MiB
ZSTD_WINDOW_LIMIT = 1 << 27  # bytes; the limit of zstd without --long
ZSTD_STEP = 1 << 10  # bytes of input per step: they expand to 32 MiB at most before the limit is checked


class DecompressionError(ValueError):
    """Data that is damaged, truncated or larger than allowed when decompressed."""


class _Decoder(Protocol):
    """The common interface of zlib's and lzma's decoders."""

    @property
    def eof(self) -> bool:
        """Whether the end of the compressed stream is reached."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Decode, and return at most `max_length` bytes."""


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompress a gzip member to at most `limit` bytes, ignoring data after it. Raises DecompressionError."""
    import zlib

    try:
        return _bounded(zlib.decompressobj(wbits=31), data, limit)
    except zlib.error as error:
        raise DecompressionError(str(error)) from error


def inflate(data: bytes, limit: int) -> bytes:
    """Decompress a zlib stream to at most `limit` bytes. Raises DecompressionError."""
    import zlib

    try:
        return _bounded(zlib.decompressobj(), data, limit)
    except zlib.error as error:
        raise DecompressionError(str(error)) from error


def unxz(data: bytes, limit: int) -> bytes:
    """Decompress an xz stream to at most `limit` bytes, ignoring data after it. Raises DecompressionError."""
    import lzma

    try:
        return _bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT), data, limit)
    except lzma.LZMAError as error:
        raise DecompressionError(str(error)) from error


def unzstd(data: bytes, limit: int) -> bytes:
    """Decompress a zstd frame to at most `limit` bytes, ignoring data after it. Raises DecompressionError.

    The size in the frame is not trusted: no memory is allocated for it.
    """
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_LIMIT).decompressobj()
    content = bytearray()
    try:
        for start in range(0, len(data), ZSTD_STEP):
            content += decoder.decompress(data[start : start + ZSTD_STEP])
            if len(content) > limit:
                raise _too_large(limit)
            if decoder.eof:
                return bytes(content)
    except zstandard.ZstdError as error:
        raise DecompressionError(str(error)) from error
    raise DecompressionError("the compressed data is truncated")


def _bounded(decoder: _Decoder, data: bytes, limit: int) -> bytes:
    content = decoder.decompress(data, limit + 1)
    if len(content) > limit:
        raise _too_large(limit)
    if not decoder.eof:
        raise DecompressionError("the compressed data is truncated")
    return content


def _too_large(limit: int) -> DecompressionError:
    return DecompressionError(f"the decompressed data is larger than {limit} bytes")
