"""Whether the proxy is there for the pod's other containers, which the kubelet starts after it."""

from __future__ import annotations

import os
import socket
import sys

from bounceback.gate.places import links, shown
from bounceback.types.gate import ADDRESS

SECONDS = 2.0


def ready() -> int:
    """0: it listens, and the service account is as its clients are to find it. Else 1, and says why."""
    folder = shown(os.environ)
    try:
        if not (folder / "ca.crt").stat().st_size:
            raise OSError(f"{folder}/ca.crt is empty")
        for name in links(os.environ):
            (folder / name).lstat()  # where it leads to only the other containers see
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            connection.connect(ADDRESS)  # which is there once everything else is
    except OSError as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1
    return 0
