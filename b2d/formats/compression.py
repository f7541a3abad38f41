"""Decompress foreign data with a limit on what comes out.

A few kilobytes can stand for gigabytes, so every function takes the largest size that its caller has a use for.
"""

from typing import Protocol

MEMORY_LIMIT = 256 << 20  # bytes that a decoder may need for itself; xz -9 needs 65 MiB, zstd --ultra -22 128 MiB
ZSTD_WINDOW_LIMIT = 1 << 27  # bytes; what zstd itself accepts without --long
ZSTD_STEP = 1 << 10  # bytes of input at a time: no more than 32 MiB can come of them before the limit is looked at


class DecompressionError(ValueError):
    """The data is damaged, ends too soon or becomes larger than it may."""


class _Decoder(Protocol):
    """What zlib's and lzma's decoders have in common."""

    @property
    def eof(self) -> bool:
        """True once the end of the compressed stream was reached."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Decode, and return at most `max_length` bytes."""


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompress one gzip member to at most `limit` bytes; what follows it is ignored. Raises DecompressionError."""
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
    """Decompress an xz stream to at most `limit` bytes; what follows it is ignored. Raises DecompressionError."""
    import lzma

    try:
        return _bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT), data, limit)
    except lzma.LZMAError as error:
        raise DecompressionError(str(error)) from error


def unzstd(data: bytes, limit: int) -> bytes:
    """Decompress one zstd frame to at most `limit` bytes; what follows it is ignored. Raises DecompressionError.

    The size that a frame names is not believed: no memory is set aside for it.
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
    raise DecompressionError("the compressed data ends too soon")


def _bounded(decoder: _Decoder, data: bytes, limit: int) -> bytes:
    content = decoder.decompress(data, limit + 1)
    if len(content) > limit:
        raise _too_large(limit)
    if not decoder.eof:
        raise DecompressionError("the compressed data ends too soon")
    return content


def _too_large(limit: int) -> DecompressionError:
    return DecompressionError(f"the data becomes larger than {limit} bytes when it is decompressed")
