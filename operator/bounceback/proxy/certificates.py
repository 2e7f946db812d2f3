"""Bad certificates, made on the spot, each wrong in the one thing that it is asked to be wrong in.

A certificate that is Expired, NotYetValid or for the wrong host is wrong in that alone only for clients that trust who
signed it. So an authority that they trust can be given; without one it is signed by one of our own that nobody knows.
All keys made here are on the curve P-256. They are made for this process and never leave it, but for that of a `leaf`,
which is signed here to be shown elsewhere: the authority's own key stays.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bounceback.proxy import issuing
from bounceback.proxy.shown import load
from bounceback.types.names import Leaf, TlsAnswer

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

OTHER_HOST: Final = "another-host.invalid"  # RFC 2606: nobody's
SECOND: Final = timedelta(seconds=1)
DAY: Final = timedelta(days=1)
YEAR: Final = timedelta(days=365)
VALID: Final[Mapping[TlsAnswer, tuple[timedelta, timedelta]]] = {
    TlsAnswer.EXPIRED: (-DAY - SECOND, -DAY),
    TlsAnswer.NOT_YET_VALID: (YEAR, YEAR + SECOND),
}
"""From now. Each is worth something for one second that nobody waits for: who signs may be somebody whom others trust,
and a process that keeps what it has made may live long."""
MOST_KEPT: Final = 512  # names come from clients


class UnfitError(ValueError):
    """What was given is no authority; `part` is the certificate or the key. Nothing of either is in the message."""

    def __init__(self, part: Literal["certificate", "key"], message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs; `certificate` is sent along where it is not a root itself, and those above it that were given."""

    certificate: x509.Certificate
    key: SigningKey
    above: tuple[x509.Certificate, ...] = ()

    @classmethod
    def from_pem(cls, certificate: bytes, key: bytes) -> Authority:
        """As a Secret of the type kubernetes.io/tls holds them. Raises UnfitError for what cannot sign certificates."""
        try:
            found, *above = x509.load_pem_x509_certificates(certificate)
        except ValueError as error:
            raise UnfitError("certificate", "the authority's certificate must be one in PEM") from error
        if trouble := _cannot_sign(found):
            raise UnfitError("certificate", f"the authority's certificate must be one that {trouble}")
        private = _private_key(key)
        if private.public_key() != found.public_key():
            raise UnfitError("key", "the authority's key does not belong to its certificate")
        return cls(found, private, tuple(above))

    @classmethod
    def made(cls, name: str) -> Authority:
        """A root of our own."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = issuing.for_signing(issuing.begun(subject, subject, key.public_key(), now - YEAR, now + YEAR))
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def chain(self) -> list[x509.Certificate]:
        """What follows a certificate of its: everybody but the root, which clients have."""
        return [each for each in (self.certificate, *self.above) if each.subject != each.issuer]

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        edwards = isinstance(self.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        return builder.sign(self.key, None if edwards else hashes.SHA256())


class Certificates:
    """A server's side of TLS for each name and each thing that is wrong with it."""

    def __init__(self, authorities: Mapping[str, Authority] | None = None) -> None:
        """`authorities` by the names that rules know them by."""
        self._authorities = {"": Authority.made("Bounceback, of this process"), **(authorities or {})}
        self._stranger = Authority.made("Bounceback, unknown to all")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.context = lru_cache(MOST_KEPT)(self._context)

    def give(self, name: str, authority: Authority) -> None:
        """From now on it is the one that rules know by that name."""
        before = self._authorities.get(name)
        if before is None or before.certificate != authority.certificate:
            self._authorities[name] = authority
            self.context.cache_clear()

    def knows(self, authority: str) -> bool:
        return authority in self._authorities

    def certificate(self, answer: TlsAnswer, name: str, authority: str = "") -> tuple[x509.Certificate, Authority]:
        """For that host name or IP address, and who signed it. Raises ValueError for what cannot be in one."""
        signer = self._stranger if answer is TlsAnswer.UNKNOWN_AUTHORITY else self._authorities[authority]
        return _signed(signer, answer, [name], self._key), signer

    def shown(self, leaf: str) -> ssl.SSLContext:
        """For a handshake with a certificate that is there already (types.names.Leaf). Raises ValueError."""
        context = _server()
        try:
            load(context, leaf.encode())
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"the certificate that was given cannot be shown: {error}") from error
        return context

    def _context(self, answer: TlsAnswer, name: str, authority: str) -> ssl.SSLContext:
        certificate, signer = self.certificate(answer, name, authority)
        context = _server()
        load(context, _pem(self._key, [certificate, *signer.chain]))
        return context


def leaf(authority: Authority, answer: TlsAnswer, names: Sequence[str]) -> Leaf:
    """One bad certificate for these names, with a key of its own. Raises ValueError for what cannot be in one."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(authority, answer, names, key)
    return Leaf(tuple(names), _pem(key, [certificate, *authority.chain]).decode())


def _signed(
    signer: Authority, answer: TlsAnswer, names: Sequence[str], key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    begins, ends = VALID.get(answer, (-DAY, YEAR))
    now = datetime.now(UTC)
    hosts = [OTHER_HOST] if answer is TlsAnswer.WRONG_HOST else names
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Bounceback tlsFault {answer}")])
    issuer = signer.certificate
    builder = issuing.begun(subject, issuer.subject, key.public_key(), now + begins, now + ends).add_extension(
        x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
    )
    return signer.sign(issuing.for_use(builder, ExtendedKeyUsageOID.SERVER_AUTH, issuer))


def _server() -> ssl.SSLContext:
    """Without a session that a client could come back with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def _pem(key: ec.EllipticCurvePrivateKey, chain: Iterable[x509.Certificate]) -> bytes:
    encoding = serialization.Encoding.PEM
    return issuing.pem(key) + b"".join(certificate.public_bytes(encoding) for certificate in chain)


def _cannot_sign(certificate: x509.Certificate) -> str:
    """What clients would hold against all that it signs (RFC 5280 section 6.1.4), as what must be; "": nothing."""
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "may sign others (CA:TRUE)"
    except x509.ExtensionNotFound:
        return "may sign others (CA:TRUE)"
    try:
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return "may sign others (keyCertSign)"
    except x509.ExtensionNotFound:
        pass
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= datetime.now(UTC) <= ends:
        return f"is valid now: it is from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
    return ""


def _private_key(pem: bytes) -> SigningKey:
    try:
        found = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it asks for a password
        raise UnfitError("key", "the authority's key must be one in PEM, without a password") from error
    if not isinstance(found, SigningKey):
        raise UnfitError("key", "the authority's key must be of RSA, ECDSA or EdDSA")
    return found


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
