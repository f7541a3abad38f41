"""Encodings of a connection's bytes, plain or TLS; each direction has its own end."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

CHUNK_SIZE = 1 << 18


class Decoded(NamedTuple):
    """The plaintext of received bytes, whether it was the last, and the bytes to send in return."""

    plaintext: bytes
    eof: bool
    to_send: bytes = b""


class Wire(Protocol):
    """The encoding of one connection, without its socket. Every method may raise OSError for a protocol violation."""

    half_closes: bool  # whether its end is that of the connection's direction

    def pending(self) -> int:
        """Return the number of plaintext bytes that cannot be encoded yet."""

    def encode(self, plaintext: bytes) -> bytes:
        """Return the bytes to send for plaintext."""

    def decode(self, raw: bytes) -> Decoded:
        """Decode received bytes; no bytes are the end."""

    def encode_eof(self) -> bytes:
        """Return the bytes to send at the end of the plaintext."""


class PlainText:
    """The bytes as they are."""

    half_closes = True

    def pending(self) -> int:
        """Return the number of plaintext bytes that cannot be encoded yet."""
        return 0

    def encode(self, plaintext: bytes) -> bytes:
        """Return the bytes to send for plaintext."""
        return plaintext

    def decode(self, raw: bytes) -> Decoded:
        """Decode received bytes; no bytes are the end."""
        return Decoded(raw, not raw)

    def encode_eof(self) -> bytes:
        """Return the bytes to send at the end."""
        return b""


class GuardedPlainText(PlainText):
    """Requests that pass `check`; its OSError ends the connection with `refusal`."""

    def __init__(self, check: Callable[[bytes], bytes], refusal: bytes) -> None:
        """Keep the check and the answer to refused requests."""
        self._check = check
        self._refusal = refusal

    def decode(self, raw: bytes) -> Decoded:
        """Return the requests that pass the check, or the refusal."""
        try:
            return Decoded(self._check(raw), not raw)
        except OSError:
            return Decoded(b"", True, self._refusal)


class TlsClient:
    """TLS as a client to `name`. Its end is a TLS message: the connection itself stays open, as with Go."""

    half_closes = False

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        """Prepare the handshake."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._queued = b""  # plaintext given before the end of the handshake
        self._is_established = self._is_closing = False

    def pending(self) -> int:
        """Return the number of plaintext bytes that cannot be encoded yet."""
        return len(self._queued)

    def encode(self, plaintext: bytes) -> bytes:
        """Return the bytes to send for plaintext."""
        self._queued += plaintext
        with suppress(ssl.SSLWantReadError):
            self._advance()
        return self._out.read()

    def decode(self, raw: bytes) -> Decoded:
        """Decode received bytes; no bytes are the end."""
        if raw:
            self._in.write(raw)
        else:
            self._in.write_eof()
        chunks, eof = [], False
        try:
            self._advance()
            while chunk := self._tls.read(CHUNK_SIZE):
                chunks.append(chunk)
            eof = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # SSLZeroReturnError: our own end was sent before
            eof = True
        return Decoded(b"".join(chunks), eof, self._out.read())

    def encode_eof(self) -> bytes:
        """Return the bytes to send at the end."""
        self._is_closing = True
        return self.encode(b"")

    def _advance(self) -> None:
        """Continue the handshake, and encrypt the queue. Raises SSLWantReadError during the handshake."""
        if not self._is_established:
            self._tls.do_handshake()
            self._is_established = True
        rest, self._queued = memoryview(self._queued), b""
        while rest:
            rest = rest[self._tls.write(rest) :]
        if self._is_closing:
            self._is_closing = False
            with suppress(ssl.SSLWantReadError):  # it would wait for the peer's end
                self._tls.unwrap()
