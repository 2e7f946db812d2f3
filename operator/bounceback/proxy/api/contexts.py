"""What the proxy listens with, and what it speaks to the API server with. Standard library only: making certificates is
for who can afford it (loopback.py)."""

from __future__ import annotations

import ssl
from typing import Final

RENEWED_SECONDS: Final = 12 * 3600.0
"""How often the server's certificate is made anew; each lasts for a day."""
PROTOCOLS: Final = ["http/1.1"]


def listening() -> ssl.SSLContext:
    """For a server; it has no certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(PROTOCOLS)
    context.num_tickets = 0  # a connection is a handshake: nobody comes back with what was agreed before
    return context


def towards(authority: bytes | None) -> ssl.SSLContext:
    """For connections to the API server; None: the system's authorities are trusted.

    Raises ssl.SSLError, UnicodeDecodeError for what is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(PROTOCOLS)
    if authority is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=authority.decode("ascii"))
    return context
