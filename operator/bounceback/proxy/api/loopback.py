"""Certificates of a proxy that listens on loopback: an authority of its own for each run, good for nothing else.

Its certificate says so (name constraints, RFC 5280 section 4.2.1.10): should its key get out, it cannot speak for any
other host. Keys are on the curve P-256 and made for this process; the authority's never leaves it, unless it is to
outlive the process: then it is in a file for its user alone.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bounceback.proxy import issuing
from bounceback.proxy.api.contexts import listening
from bounceback.proxy.issuing import pem
from bounceback.proxy.shown import load

Key = ec.EllipticCurvePrivateKey
LASTS: Final = timedelta(days=365)
"""Of an authority that ends with its process, and of what clients of it are given."""
KEPT_LASTS: Final = timedelta(days=3650)
"""Of an authority that is kept: as long as a pod may live."""
LEAF_LASTS: Final = timedelta(days=1)
EARLIER: Final = timedelta(minutes=5)  # clocks differ
NAMES: Final = [
    x509.DNSName("localhost"),
    x509.IPAddress(IPv4Address("127.0.0.1")),
    x509.IPAddress(IPv6Address("::1")),
]
ONLY: Final = [
    x509.DNSName("localhost"),
    x509.IPAddress(IPv4Network("127.0.0.0/8")),
    x509.IPAddress(IPv6Network("::1/128")),
]


class Loopback:
    """The authority, and what it signs. `context` is what a server listens with; `renew` gives it a new certificate."""

    def __init__(self, *, asks_for_certificates: bool, kept: Path | None = None) -> None:
        """`asks_for_certificates`: only clients with one of ours are let in. `kept`: the file with the authority and
        its key, made where it is not there. Raises OSError, and ValueError for a file that is no such thing."""
        if kept is not None and kept.exists():
            self._key, self._root = _read(kept)
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            self._root = self._make_root(LASTS if kept is None else KEPT_LASTS)
            if kept is not None:
                _write(kept, pem(self._key) + self.authority)
        self.context = listening()
        if asks_for_certificates:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(cadata=self.authority.decode())
        self.renew()

    @property
    def authority(self) -> bytes:
        """Its certificate, in PEM: what clients are to trust."""
        return self._root.public_bytes(serialization.Encoding.PEM)

    def renew(self) -> None:
        """Connections that are open stay as they are."""
        load(self.context, *self.server())

    def server(self) -> tuple[bytes, bytes]:
        """A new certificate and its key for a server on loopback, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        certificate = self._sign(
            self._leaf(subject, key, ExtendedKeyUsageOID.SERVER_AUTH, LEAF_LASTS).add_extension(
                x509.SubjectAlternativeName(NAMES), critical=False
            )
        )
        return certificate, pem(key)

    def client(self, subject: x509.Name) -> tuple[bytes, bytes]:
        """Certificate and key for a client of that name, in PEM; for this proxy, as long as its authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._sign(self._leaf(subject, key, ExtendedKeyUsageOID.CLIENT_AUTH, LASTS)), pem(key)

    def _make_root(self, lasts: timedelta) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bounceback, loopback of one process")])
        return (
            issuing.for_signing(_begun(name, name, self._key, lasts))
            .add_extension(x509.NameConstraints(permitted_subtrees=ONLY, excluded_subtrees=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _leaf(
        self, subject: x509.Name, key: Key, purpose: x509.ObjectIdentifier, lasts: timedelta
    ) -> x509.CertificateBuilder:
        return issuing.for_use(_begun(subject, self._root.subject, key, lasts), purpose, self._root)

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _read(kept: Path) -> tuple[Key, x509.Certificate]:
    text = kept.read_bytes()
    key = serialization.load_pem_private_key(text, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{kept}: must hold a key on the curve P-256")
    return key, x509.load_pem_x509_certificate(text)


def _write(kept: Path, text: bytes) -> None:
    """All of it or nothing, for us alone."""
    begun = kept.with_name(f".{kept.name}")
    begun.unlink(missing_ok=True)
    descriptor = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)
    begun.rename(kept)


def _begun(subject: x509.Name, issuer: x509.Name, key: Key, lasts: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return issuing.begun(subject, issuer, key.public_key(), now - EARLIER, now + lasts)
