"""Bytes as they go over a connection, in clear or within TLS; each direction has an end of its own."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

PIECE = 1 << 18


class Decoded(NamedTuple):
    """What was meant by the bytes that came, whether that was all, and what is to be sent for it."""

    meant: bytes
    over: bool
    sent: bytes = b""


class Wire(Protocol):
    """One connection's, without the connection. Each may raise OSError when the other side speaks something else."""

    shuts: bool  # whether the end is the connection's own

    def held(self) -> int:
        """How many bytes were told that cannot be sent yet."""

    def tell(self, meant: bytes) -> bytes:
        """What is sent for it."""

    def hear(self, raw: bytes) -> Decoded:
        """What came; nothing: no more comes."""

    def end(self) -> bytes:
        """What is sent when no more is meant to be."""


class PlainText:
    """As they are."""

    shuts = True

    def held(self) -> int:
        return 0

    def tell(self, meant: bytes) -> bytes:
        return meant

    def hear(self, raw: bytes) -> Decoded:
        return Decoded(raw, not raw)

    def end(self) -> bytes:
        return b""


class GuardedPlainText(PlainText):
    """As they are, where they are requests that `check` lets pass; its OSError ends them with `refusal`."""

    def __init__(self, check: Callable[[bytes], bytes], refusal: bytes) -> None:
        self._check = check
        self._refusal = refusal

    def hear(self, raw: bytes) -> Decoded:
        try:
            return Decoded(self._check(raw), not raw)
        except OSError:
            return Decoded(b"", True, self._refusal)


class TlsClient:
    """Within TLS, as a client to `name`. Its end is said in TLS: the connection itself stays open, as Go has it too."""

    shuts = False

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._early = b""  # told before the greeting was over
        self._greeted = self._ends = False

    def held(self) -> int:
        return len(self._early)

    def tell(self, meant: bytes) -> bytes:
        self._early += meant
        with suppress(ssl.SSLWantReadError):
            self._put()
        return self._out.read()

    def hear(self, raw: bytes) -> Decoded:
        if raw:
            self._in.write(raw)
        else:
            self._in.write_eof()
        pieces, over = [], False
        try:
            self._put()
            while piece := self._tls.read(PIECE):
                pieces.append(piece)
            over = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # the first where our own end was said already
            over = True
        return Decoded(b"".join(pieces), over, self._out.read())

    def end(self) -> bytes:
        self._ends = True
        return self.tell(b"")

    def _put(self) -> None:
        """Into TLS with what waits for it. Raises SSLWantReadError while the greeting goes on."""
        if not self._greeted:
            self._tls.do_handshake()
            self._greeted = True
        rest, self._early = memoryview(self._early), b""
        while rest:
            rest = rest[self._tls.write(rest) :]
        if self._ends:
            self._ends = False
            with suppress(ssl.SSLWantReadError):  # it would like to hear the other's end at once
                self._tls.unwrap()
