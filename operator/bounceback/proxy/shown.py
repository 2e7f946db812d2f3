"""Certificates as a TLS server or client shows them. Standard library only."""

from __future__ import annotations

import os
import ssl


def load(context: ssl.SSLContext, *parts: bytes) -> None:
    """A certificate, those above it, and its key, in PEM, from memory: the standard library takes files only, and keys
    belong on no disk. Raises ssl.SSLError."""
    descriptor = os.memfd_create("bounceback")
    try:
        os.write(descriptor, b"\n".join(parts))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
