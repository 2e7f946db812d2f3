"""What the proxy listens with. Standard library only: making certificates is for who can afford it (loopback.py)."""

from __future__ import annotations

import os
import ssl
from typing import Final

RENEWED_SECONDS: Final = 12 * 3600.0
"""How often the server's certificate is made anew; each lasts for a day."""


def listening() -> ssl.SSLContext:
    """For a server; it has no certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # a connection is a handshake: nobody comes back with what was agreed before
    return context


def load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """From memory: the standard library takes files only, and keys belong on no disk. Raises ssl.SSLError."""
    descriptor = os.memfd_create("bounceback")
    try:
        os.write(descriptor, key.rstrip(b"\n") + b"\n" + certificate)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
