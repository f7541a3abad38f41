"""Clear-signed messages (RFC 9580), verified against pinned certificates."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2d.errors import DownloadFailed
from b2d.image.fetch import HINT_MIRROR

if TYPE_CHECKING:
    from pysequoia import Cert

BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"


class BadSignature(DownloadFailed):
    """No pinned key that is valid now signed the message."""


class NotAnIndex(DownloadFailed):
    """The mirror's answer is no index of an archive."""


def verify(content: bytes, keys: Sequence[Path], url: str, now: datetime | None = None) -> bytes:
    """Return the signed text of a clear-signed message; `keys` are files of OpenPGP certificates.

    Raises NotAnIndex for any other file, and BadSignature unless a key signed it that has not expired at `now`:
    whoever gets hold of an expired key can date signatures back. What the library checks itself: that the key was
    valid when the signature was made, revocations, and weak hashes.
    """
    import pysequoia

    if BEGIN not in content[:200]:
        raise NotAnIndex(
            f"{url} is not an index of Debian's archive",
            hint=HINT_MIRROR,
            details=repr(content[:200]),
        )
    certificates = [certificate for key in keys for certificate in pysequoia.Cert.split_bytes(key.read_bytes())]
    unsigned = f"{url} is not signed by Debian: nothing was installed"
    try:
        result = pysequoia.verify(content, lambda _identifiers: certificates)
    except Exception as error:  # the library raises nothing more precise
        raise BadSignature(unsigned, hint=HINT_MIRROR, details=str(error)) from error
    if not result.valid_sigs:
        raise BadSignature(unsigned, hint=HINT_MIRROR)
    expirations = [_expiration(signature, certificates) for signature in result.valid_sigs]
    if all(expires is not None and expires <= (now or datetime.now(UTC)) for expires in expirations):
        latest = max(expires for expires in expirations if expires is not None)
        message = f"{url} is signed by a key that expired on {latest:%Y-%m-%d}: nothing was installed"
        raise BadSignature(message, hint="upgrade b2d: a newer one brings Debian's newer keys")
    return bytes(result.bytes or b"")


def _expiration(signature: Any, certificates: Sequence["Cert"]) -> datetime | None:
    """The time from which on the signing key is not valid: its own expiration or its primary key's, None: never."""
    times = []
    for certificate in certificates:
        if certificate.fingerprint == signature.certificate:
            times += [certificate.expiration, _subkey_expiration(certificate, signature.signing_key)]
    return min((time for time in times if time is not None), default=None)


def _subkey_expiration(certificate: "Cert", fingerprint: str) -> datetime | None:
    """The expiration that the newest binding signature of a subkey gives it."""
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
