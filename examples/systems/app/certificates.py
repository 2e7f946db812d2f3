"""A certificate for a day, signed by itself or by an authority that is there."""

import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def own(host: str, folder: Path) -> tuple[bytes, bytes, bytes]:
    """Who signed, the certificate and its key, all in PEM. An authority is tls.crt and tls.key in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    signer: Any = key
    authority = b""
    if (folder / "tls.crt").exists():
        authority = (folder / "tls.crt").read_bytes()
        issuer = x509.load_pem_x509_certificate(authority).subject
        signer = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=not authority, path_length=None if authority else 0), critical=True)
        .sign(signer, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority or certificate.public_bytes(pem), certificate.public_bytes(pem), secret
