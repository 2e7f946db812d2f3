"""A TLS handshake, and the certificate that the server shows in it."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509

from bounceback.api.looks import TlsLook
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.means import Means

DAY: Final = 86_400


async def ask_by_tls(means: Means, look: TlsLook) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    context = await means.context(look.tls, look.host)

    async def shake(address: str, port: int) -> ssl.SSLObject:
        _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=look.host)
        shaken: ssl.SSLObject = writer.get_extra_info("ssl_object")
        writer.transport.abort()
        return shaken

    shaken, milliseconds = await means.ask(look.host, look.port, shake)
    shown = shaken.getpeercert(binary_form=True)
    assert shown is not None, "a server always shows one in the suites that Python takes"
    certificate = x509.load_der_x509_certificate(shown)
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    days = int(left.total_seconds() // DAY)
    if days < look.valid_days:
        until = certificate.not_valid_after_utc.strftime("%Y-%m-%d %H:%M UTC")
        raise NotHealthyError(f"the certificate is valid until {until}, {days} days, expected {look.valid_days}")
    cipher = shaken.cipher()
    return {
        "daysLeft": days,
        "names": _names(certificate),
        "issuer": certificate.issuer.rfc4514_string(),
        "subject": certificate.subject.rfc4514_string(),
        "version": shaken.version(),
        "cipher": cipher[0] if cipher else "",
        "milliseconds": milliseconds,
    }


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
