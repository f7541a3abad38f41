"""Nothing is decompressed before its signature is checked: an index of kilobytes could become gigabytes."""

import base64
import struct
import zlib

import pysequoia
import pytest
from pysequoia import SignatureMode, Tsk, sign

from b2d.image.build import signature
from b2d.image.build.signature import BadSignatureError, NotAnIndexError, verify

TEXT = b"Origin: Debian\n"
CLEAR = b"-----BEGIN PGP SIGNED MESSAGE-----"


def packet(tag: int, body: bytes, *, old: bool = False) -> bytes:
    """Return an OpenPGP packet (RFC 9580, 4.2)."""
    if old:
        return bytes([0x80 | tag << 2 | 2]) + struct.pack(">I", len(body)) + body
    return bytes([0xC0 | tag, 0xFF]) + struct.pack(">I", len(body)) + body


def armored(kind: bytes, packets: bytes, header: bytes = b"") -> bytes:
    return b"-----BEGIN PGP %s-----\n%s\n%s-----END PGP %s-----\n" % (kind, header, base64.encodebytes(packets), kind)


def clear(signatures: bytes) -> bytes:
    return CLEAR + b"\nHash: SHA256\n\n" + TEXT + armored(b"SIGNATURE", signatures)


PACKED = b"\2" + zlib.compress(packet(11, b"b\0" + bytes(1 << 20)))
SIGNED = packet(2, bytes(100))
HOSTILE = {
    "a packed message that says in a comment what it is": armored(
        b"MESSAGE", packet(8, PACKED), b"Comment: " + CLEAR + b"\n"
    ),
    "something packed in the place of a signature": clear(packet(8, PACKED)),
    "something packed beside a signature": clear(SIGNED + packet(8, PACKED)),
    "something packed, in the old format": clear(packet(8, PACKED, old=True)),
    "a literal text": clear(packet(11, b"b\0" + bytes(100))),
    "a packet of indeterminate length": clear(bytes([0xC2, 0xE9]) + bytes(1000)),
    "a packet of the old format of indeterminate length": clear(bytes([0x8B]) + bytes(1000)),
    "another message behind it": clear(SIGNED) + armored(b"MESSAGE", packet(8, PACKED)),
    "another message in the text": clear(SIGNED).replace(TEXT, TEXT + armored(b"MESSAGE", packet(8, PACKED))),
    "no signature": clear(b""),
    "no base64": clear(SIGNED).replace(b"wv8", b"w!8"),
    "nothing behind the text": CLEAR + b"\n\n" + TEXT,
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_unsigned_or_packed_data_is_not_unpacked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(*_: object) -> None:
        raise AssertionError("the library unpacks what is packed")

    monkeypatch.setattr(pysequoia, "verify", unpack)
    with pytest.raises((NotAnIndexError, BadSignatureError)):
        verify(HOSTILE[kind], [], "http://127.0.0.1")


@pytest.mark.parametrize("signers", [1, 2])
def test_signatures_of_one_or_several_keys_are_accepted(signers: int) -> None:
    blocks = [sign(Tsk.generate("a <a@example.com>").signer(), TEXT, mode=SignatureMode.CLEAR) for _ in range(signers)]
    bodies = [
        block.partition(signature.SIGNATURE)[2].partition(b"-----END")[0].partition(b"\n\n")[2] for block in blocks
    ]
    packets = [base64.b64decode(b"".join(block for block in body.split() if block[:1] != b"=")) for body in bodies]
    assert signature._has_only_signatures(clear(b"".join(packets)))
    assert all(signature._has_only_signatures(block) for block in blocks)
