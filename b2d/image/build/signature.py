"""Verify clear-signed messages (RFC 9580) against pinned certificates."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2d.errors import DownloadError
from b2d.image.build.package_cache import HINT_MIRROR

if TYPE_CHECKING:
    from pysequoia import Cert

BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"


class BadSignatureError(DownloadError):
    """A message without a signature of a pinned key that is valid now."""


class NotAnIndexError(DownloadError):
    """A response of a mirror that is not an archive index."""


def verify(content: bytes, keys: Sequence[Path], url: str, now: datetime | None = None) -> bytes:
    """Return the signed text of a clear-signed message; `keys` are files of OpenPGP certificates.

    Raises NotAnIndexError for any other file, and BadSignatureError unless a key signed it that has not expired at
    `now`: a stolen expired key can back-date signatures. The library itself checks that the key was valid when the
    signature was made, revocations, and weak hashes.
    """
    import pysequoia

    if not content.lstrip().startswith(BEGIN):
        raise NotAnIndexError(
            f"{url} is not an index of Debian's archive",
            hint=HINT_MIRROR,
            details=repr(content[:200]),
        )
    certificates = [certificate for key in keys for certificate in pysequoia.Cert.split_bytes(key.read_bytes())]
    unsigned = f"{url} is not signed by Debian: nothing was installed"
    if not _has_only_signatures(content):
        raise BadSignatureError(unsigned, hint=HINT_MIRROR)
    try:
        result = pysequoia.verify(content, lambda _identifiers: certificates)
    except RuntimeError as error:  # the library raises nothing more precise
        raise BadSignatureError(unsigned, hint=HINT_MIRROR, details=str(error)) from error
    if not result.valid_sigs:
        raise BadSignatureError(unsigned, hint=HINT_MIRROR)
    expirations = [_expiration(signature, certificates) for signature in result.valid_sigs]
    if all(expires is not None and expires <= (now or datetime.now(UTC)) for expires in expirations):
        latest = max(expires for expires in expirations if expires is not None)
        message = f"{url} is signed by a key that expired on {latest:%Y-%m-%d}: nothing was installed"
        raise BadSignatureError(message, hint="upgrade b2d: newer versions contain Debian's newer keys")
    return bytes(result.bytes or b"")


def _has_only_signatures(content: bytes) -> bool:
    """Return whether only signatures follow the text: the library would unpack a compressed packet.

    RFC 9580: 6.2 (armor), 4.2 (packet headers), 5.2 (tag 2).
    """
    if content.count(b"-----BEGIN ") != 2:  # also in the armor's headers, which anyone can write
        return False
    armor = content.partition(SIGNATURE)[2].partition(b"-----END PGP SIGNATURE-----")[0].replace(b"\r", b"")
    lines = armor.partition(b"\n\n")[2].split(b"\n")
    try:
        packets = base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")), validate=True)
    except ValueError:
        return False
    has_packets = bool(packets)
    while packets:
        header, length = _packet_lengths(packets)
        if not length or packets[0] not in (0xC2, *range(0x88, 0x8B)):  # signatures in the new format, and in the old
            return False
        packets = packets[header + length :]
    return has_packets


def _packet_lengths(packets: bytes) -> tuple[int, int]:
    """Return the lengths of the first packet's header and body in bytes; 0 where unknown, as for partial bodies."""
    is_new_format, octets = packets[0] & 0x40, packets[1:6]
    if is_new_format and octets[:1] < b"\xc0":
        return 2, int.from_bytes(octets[:1])
    if is_new_format and octets[:1] < b"\xe0":
        return 3, int.from_bytes(octets[:2]) - 0xC000 + 192
    if is_new_format:
        return 6, int.from_bytes(octets[1:5]) if octets[:1] == b"\xff" else 0
    size = {0: 1, 1: 2, 2: 4}.get(packets[0] & 3, 0)
    return 1 + size, int.from_bytes(octets[:size])


def _expiration(signature: Any, certificates: Sequence["Cert"]) -> datetime | None:
    """Return when the signing key expires, by itself or with its primary key; None for never."""
    times = []
    for certificate in certificates:
        if certificate.fingerprint == signature.certificate:
            times += [certificate.expiration, _subkey_expiration(certificate, signature.signing_key)]
    return min((time for time in times if time is not None), default=None)


def _subkey_expiration(certificate: "Cert", fingerprint: str) -> datetime | None:
    """Return the expiration in the newest binding signature of a subkey; None for never."""
    from pysequoia.packet import PacketPile, SignatureType

    key, created, period, newest = "", None, None, None
    for packet in PacketPile.from_bytes(bytes(certificate)):
        if packet.fingerprint is not None:
            key = packet.fingerprint
            created = packet.key_created if key == fingerprint else created
        binds = key == fingerprint and packet.signature_type == SignatureType.SubkeyBinding
        if binds and (newest is None or packet.signature_created >= newest):
            newest, period = packet.signature_created, packet.key_validity_period
    return created + period if created is not None and period else None
