"""Who a client is, as far as its token says. Nobody verifies it here: the API server does.

Tokens are not kept: what is remembered is a number made of one by a key of this process.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final

MOST: Final = 4096
BEARER: Final = b"bearer "


class Identities:
    """Users by token."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def of(self, authorization: bytes) -> str:
        """The user that the API server will take the bearer of that header for; "" where it does not say."""
        key = mark(authorization)
        if (user := self._known.get(key)) is None:
            if len(self._known) >= MOST:
                self._known.clear()
            user = self._known[key] = _subject(authorization)
        return user


def mark(authorization: bytes) -> int:
    """Tells one token from another, in this process only (Python's hash of bytes is keyed: SipHash)."""
    return hash(authorization)


def _subject(authorization: bytes) -> str:
    """`sub` of a service account's token: a JSON web token (RFC 7519)."""
    if authorization[:7].lower() != BEARER:
        return ""
    parts = authorization[7:].strip().split(b".")
    if len(parts) != 3:
        return ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return ""
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else ""
