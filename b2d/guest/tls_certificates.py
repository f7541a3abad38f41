"""TLS: an authority per machine, created on this host, and the certificates of dockerd and its client."""

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.errors import ConfigError
from b2d.host.files import private_folder, read_bounded, write_atomic
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_DAYS = 3650
LEAF_DAYS = 730  # Apple's verifier takes no server certificate of more than 825
RENEW_DAYS = 30
CLOCK_TOLERANCE = timedelta(days=1)  # a guest's or a client's clock may be behind
ALWAYS = ("127.0.0.1", "::1", "localhost", "boot2docker", "10.0.2.15")


def ensure_certificates(paths: MachinePaths, addresses: Sequence[str], now: datetime) -> bool:
    """Create certificates that are missing, broken, about to expire or lack an address.

    Returns True when dockerd's is new. `now` has a time zone. A new authority renews all: certificates of an older one
    would match nothing.
    """
    private_folder(paths.certs)
    private_folder(paths.authority)
    names = _all_names(addresses)
    authority, server, client = _pairs(paths)
    fresh = not authority.is_valid(now, None, ())
    if fresh:
        authority.create_authority(paths.folder.name, now)
    if not client.is_valid(now, authority, ()):
        client.create("docker", now, authority, ())
    if server.is_valid(now, authority, names):
        return fresh
    server.create("boot2docker", now, authority, names)
    return True


def expiry_warning(paths: MachinePaths, addresses: Sequence[str], now: datetime) -> str:
    """Return why ensure_certificates would create new ones, "" where it would not."""
    authority, server, client = _pairs(paths)
    return (
        authority.find_flaw(now, None, ())
        or client.find_flaw(now, authority, ())
        or server.find_flaw(now, authority, _all_names(addresses))
    )


def _all_names(addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*addresses, *ALWAYS)))


def _pairs(paths: MachinePaths) -> "tuple[_Pair, _Pair, _Pair]":
    """Return the pairs of the authority, of dockerd and of the client."""
    authority = _Pair(paths.certs / "ca.pem", paths.authority / "ca-key.pem")
    server = _Pair(paths.authority / "server.pem", paths.authority / "server-key.pem")
    return authority, server, _Pair(paths.certs / "cert.pem", paths.certs / "key.pem")


def authorities(path: Path) -> bytes:
    """Return the certificates in a PEM file, and nothing else in it. Raises ConfigError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificates = x509.load_pem_x509_certificates(read_bounded(path))
    except OSError as error:
        raise ConfigError(f"ca: {path} cannot be read: {error.strerror}", hint="b2d config ca") from error
    except ValueError as error:
        hint = f"openssl x509 -inform der -in {shlex.quote(str(path))} converts DER to PEM"
        raise ConfigError(f"ca: {path} contains no PEM certificates", hint=hint) from error
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


class _Pair:
    """A certificate and its key, in two files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key

    def is_valid(self, now: datetime, issuer: "_Pair | None", names: Sequence[str]) -> bool:
        """Return whether both files exist, match, are valid, are the issuer's and have all names."""
        return not self.find_flaw(now, issuer, names)

    def find_flaw(self, now: datetime, issuer: "_Pair | None", names: Sequence[str]) -> str:
        """Return the reason for which the pair is not valid, "" for none."""
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

        name = self._certificate.name
        malformed = (
            x509.UnsupportedGeneralNameType,
            x509.DuplicateExtension,
            x509.ExtensionNotFound,
            x509.InvalidVersion,
        )
        try:
            certificate, key = self._read()
            if issuer is not None:
                certificate.verify_directly_issued_by(issuer._read()[0])
            else:
                certificate.subject.public_bytes()  # `create` uses both
                certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            return self._flaw(certificate, key, now) or _missing_names(name, set(names) - _names(certificate))
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (OSError, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, *malformed):
            return f"{name} is damaged, or of another authority"

    def _flaw(self, certificate: "x509.Certificate", key: "EllipticCurvePrivateKey", now: datetime) -> str:
        """Return the same of its key and dates; the library parses these fields only now."""
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if certificate.public_key() != key.public_key():
            return f"{self._certificate.name} does not match its key"
        if begin > now or end <= now + timedelta(days=RENEW_DAYS):
            return f"{self._certificate.name} is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}"
        return ""

    def create_authority(self, machine: str, now: datetime) -> None:
        """Create the authority's key and certificate."""
        from cryptography import x509

        key = _new_key()
        name = _name(f"b2d authority of {machine}")
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            _builder(now, AUTHORITY_DAYS, key)
            .subject_name(name)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        self._write(builder, key, key)

    def create(self, name: str, now: datetime, authority: "_Pair", names: Sequence[str]) -> None:
        """Create a server's key and certificate where there are names, else a client's."""
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

        issuer, issuer_key = authority._read()
        key = _new_key()
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        above = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            _builder(now, LEAF_DAYS, key)
            .subject_name(_name(name))
            .issuer_name(issuer.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([Usage.SERVER_AUTH if names else Usage.CLIENT_AUTH]), critical=False)
            .add_extension(own, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(alternative) for alternative in names]), critical=False
            )
        self._write(builder, key, issuer_key)

    def _read(self) -> "tuple[x509.Certificate, EllipticCurvePrivateKey]":
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(read_bounded(self._key), password=None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError(f"{self._key} is not an ECDSA key")
        return x509.load_pem_x509_certificate(read_bounded(self._certificate)), key

    def _write(
        self,
        builder: "x509.CertificateBuilder",
        key: "EllipticCurvePrivateKey",
        signer: "EllipticCurvePrivateKey",
    ) -> None:
        from cryptography.hazmat.primitives import hashes, serialization

        certificate = builder.sign(signer, hashes.SHA256())
        write_atomic(
            self._key,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        write_atomic(self._certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _missing_names(name: str, missing: set[str]) -> str:
    return f"{name} lacks {', '.join(sorted(missing))}" if missing else ""


def _new_key() -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _builder(now: datetime, days: int, key: "EllipticCurvePrivateKey") -> "x509.CertificateBuilder":
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + timedelta(days=days))
        .public_key(key.public_key())
    )


def _key_usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # RFC 5280: 64 at most


def _general_name(name: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: "x509.Certificate") -> set[str]:
    from cryptography import x509

    try:
        value = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*value.get_values_for_type(x509.DNSName), *map(str, value.get_values_for_type(x509.IPAddress))}
