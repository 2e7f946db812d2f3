"""A TLS handshake, and the certificates that the server shows in it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from cryptography import x509

from bounceback.api.looks import TlsLook
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.means import Means

DAY: Final = 86_400
DER: Final = 2
"""As the `_ssl` module numbers it."""
OF_THE_CHAIN: Final = frozenset((2, 9, 10, 20, 21))
"""X509_V_ERR_: the issuer is not there, not yet valid, expired. OpenSSL does not say of which certificate."""

Chain = Sequence[x509.Certificate]


async def ask_by_tls(means: Means, look: TlsLook) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    context = await means.context(look.tls, look.host)

    async def shake(address: str, port: int) -> ssl.SSLObject:
        try:
            return await _handshake(address, port, context, look.host)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code not in OF_THE_CHAIN:
                raise
            unverified = await means.context(look.tls.model_copy(update={"verify": False}), look.host)
            chain = chain_of(await _handshake(address, port, unverified, look.host))
            raise NotHealthyError(
                f"certificate not trusted: {error.verify_message}; {_blamed(chain, datetime.now(UTC))}"
            ) from error

    shaken, milliseconds = await means.ask(look.host, look.port, shake)
    chain, now = chain_of(shaken), datetime.now(UTC)
    for place, certificate in enumerate(chain):
        if (days := _days_left(certificate, now)) < look.valid_days:
            told = f"{_which(chain, place)} is {_until(certificate)}, {days} days"
            raise NotHealthyError(f"{told}, expected {look.valid_days}")
    if not look.any_order and (wrong := _out_of_order(chain)) is not None:
        raise NotHealthyError(wrong)
    own, cipher = chain[0], shaken.cipher()
    return {
        "daysLeft": _days_left(own, now),
        "names": _names(own),
        "issuer": own.issuer.rfc4514_string(),
        "subject": own.subject.rfc4514_string(),
        "chain": [
            {
                "daysLeft": _days_left(each, now),
                "issuer": each.issuer.rfc4514_string(),
                "subject": each.subject.rfc4514_string(),
            }
            for each in chain
        ],
        "version": shaken.version(),
        "cipher": cipher[0] if cipher else "",
        "milliseconds": milliseconds,
    }


async def _handshake(address: str, port: int, context: ssl.SSLContext, host: str) -> ssl.SSLObject:
    _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
    shaken: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    return shaken


def chain_of(shaken: Any) -> Chain:
    """All that the server has shown, in its order, whatever came of the verification."""
    if hasattr(shaken, "get_unverified_chain"):  # from Python 3.13 on
        shown = shaken.get_unverified_chain()
    else:
        shown = [each.public_bytes(DER) for each in shaken._sslobj.get_unverified_chain() or ()]
    assert shown, "a server always shows one in the suites that Python takes"
    return [x509.load_der_x509_certificate(each) for each in shown]


def _blamed(chain: Chain, now: datetime) -> str:
    """Where it lies that the chain is not trusted."""
    for place, certificate in enumerate(chain):
        if certificate.not_valid_after_utc < now:
            return f"{_which(chain, place)} was {_until(certificate)}"
        if certificate.not_valid_before_utc > now:
            since = certificate.not_valid_before_utc.strftime("%Y-%m-%d %H:%M UTC")
            return f"{_which(chain, place)} is valid from {since}"
    subjects = {each.subject for each in chain}
    missing = next((each.issuer for each in chain if each.issuer not in subjects), chain[-1].issuer)
    issuer = missing.rfc4514_string()
    return f"{issuer} is neither among the {len(chain)} shown nor among the authorities that are trusted"


def _out_of_order(chain: Chain) -> str | None:
    """Each certificate must be followed by its issuer's: RFC 5246, 7.4.2; RFC 8446, 4.4.2 only asks for it."""
    for place, (signed, follows) in enumerate(pairwise(chain), 1):
        if signed.issuer != follows.subject:
            found, wanted = _which(chain, place).rstrip(","), signed.issuer.rfc4514_string()
            return f"the chain is not in order: {found}, must be {wanted}, who signed the one before it"
    return None


def _which(chain: Chain, place: int) -> str:
    if place == 0:
        return "the certificate"
    return f"certificate {place + 1} of {len(chain)}, {chain[place].subject.rfc4514_string()},"


def _until(certificate: x509.Certificate) -> str:
    return f"valid until {certificate.not_valid_after_utc.strftime('%Y-%m-%d %H:%M UTC')}"


def _days_left(certificate: x509.Certificate, now: datetime) -> int:
    return int((certificate.not_valid_after_utc - now).total_seconds() // DAY)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
