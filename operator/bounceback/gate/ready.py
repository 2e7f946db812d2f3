"""Whether the proxy is there for the pod's other containers, which the kubelet starts after it."""

from __future__ import annotations

import os
import socket
import sys

from bounceback.gate.places import shown
from bounceback.types.gate import ADDRESS

SECONDS = 2.0


def ready() -> int:
    """0: it listens, and the authority that its clients are to trust is where they find it. Else 1, and says why."""
    authorities = shown(os.environ) / "ca.crt"
    try:
        if not authorities.stat().st_size:
            raise OSError(f"{authorities} is empty")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            connection.connect(ADDRESS)  # which is there once everything else is
    except OSError as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1
    return 0
