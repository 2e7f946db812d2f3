"""The certificate that our webhooks show to the API server: made by us, shared by all replicas, renewed in time.

It stands in a Secret, so that every replica shows the same one and a restarted one still does. Each is signed by an
authority of its own, whose key is forgotten at once; the API server is told to trust the newest and the one before it,
so that replicas need not change at the same moment.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import SECRETS
from bounceback.proxy import issuing
from bounceback.proxy.certificates import Authority

LASTS: Final = timedelta(days=90)
RENEWED: Final = timedelta(days=30)
"""That long before it ends."""
EARLIER: Final = timedelta(hours=1)  # clocks differ
CERTIFICATE, KEY, AUTHORITIES = "tls.crt", "tls.key", "ca.crt"


@dataclass(frozen=True, slots=True)
class Pair:
    """In PEM; `authorities` are to be trusted, the one that signed this first."""

    certificate: bytes
    key: bytes
    authorities: bytes

    @classmethod
    def made(cls, hosts: tuple[str, ...], before: Pair | None = None) -> Pair:
        """For those DNS names; whoever still shows the one `before` is trusted, too."""
        authority = Authority.made(f"Bounceback, {hosts[0]}")
        key = ec.generate_private_key(ec.SECP256R1())
        encoding = serialization.Encoding.PEM
        root = authority.certificate.public_bytes(encoding)
        trusted = root + (_first(before.authorities) if before else b"")
        return cls(_leaf(authority, hosts, key).public_bytes(encoding), issuing.pem(key), trusted)

    @classmethod
    def of(cls, secret: Json) -> Pair | None:
        """What the Secret holds; None where that is nothing that could be shown."""
        data = secret.get("data") or {}
        try:
            certificate, key, authorities = (
                base64.b64decode(data[name], validate=True) for name in (CERTIFICATE, KEY, AUTHORITIES)
            )
            shown = x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, None)
            signer = x509.load_pem_x509_certificates(authorities)[0]
            shown.verify_directly_issued_by(signer)
        except (KeyError, ValueError, TypeError, InvalidSignature):
            return None
        return cls(certificate, key, authorities) if private.public_key() == shown.public_key() else None

    @property
    def data(self) -> dict[str, str]:
        """As a Secret's."""
        parts = {CERTIFICATE: self.certificate, KEY: self.key, AUTHORITIES: self.authorities}
        return {name: base64.b64encode(part).decode() for name, part in parts.items()}

    def fits(self, hosts: tuple[str, ...], now: datetime) -> bool:
        """It is for those names, and not to be renewed yet."""
        shown = x509.load_pem_x509_certificate(self.certificate)
        try:
            names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return False
        return {*hosts} <= {*names.get_values_for_type(x509.DNSName)} and now < shown.not_valid_after_utc - RENEWED


async def kept(kube: Kube, namespace: str, name: str, hosts: tuple[str, ...]) -> Pair:
    """The one of that Secret, made anew there where it has none or it ends soon.

    Raises KubeError, aiohttp.ClientError, TimeoutError. Of replicas that do so at once one wins, and all have its pair.
    """
    while True:
        try:
            secret = await kube.get(SECRETS, namespace, name)
        except KubeError as error:
            if not error.gone:
                raise
            secret = {}
        before = Pair.of(secret)
        if before is not None and before.fits(hosts, datetime.now(UTC)):
            return before
        pair = Pair.made(hosts, before)
        try:
            if secret:
                await kube.replace(SECRETS, namespace, name, {**secret, "data": pair.data})
            else:
                body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": pair.data}
                await kube.create(SECRETS, namespace, body)
        except KubeError as error:
            if not (error.exists or error.conflict or error.gone):
                raise
        else:
            return pair


def _leaf(authority: Authority, hosts: tuple[str, ...], key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    issuer, now = authority.certificate, datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bounceback, webhook")])
    builder = issuing.begun(subject, issuer.subject, key.public_key(), now - EARLIER, now + LASTS).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
    )
    return authority.sign(issuing.for_use(builder, ExtendedKeyUsageOID.SERVER_AUTH, issuer))


def _first(authorities: bytes) -> bytes:
    return x509.load_pem_x509_certificates(authorities)[0].public_bytes(serialization.Encoding.PEM)
