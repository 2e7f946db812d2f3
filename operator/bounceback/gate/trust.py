"""Whom the two sides of the proxy trust: it the cluster's authority, the pod's containers its own and the cluster's."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

Mark = tuple[int, int, int]


class ClusterAuthority:
    """The file with the cluster's authority, which the kubelet changes when the cluster gets another one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: Mark | None = None

    def changed(self) -> bytes | None:
        """What is in it, where that is not what was there the last time. Raises OSError."""
        found = self._file.stat()
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        if mark == self._seen:
            return None
        content = self._file.read_bytes()
        self._seen = mark
        return content


def towards(authority: bytes) -> ssl.SSLContext:
    """For connections to the API server. Raises ssl.SSLError, UnicodeDecodeError for what is no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(cadata=authority.decode("ascii"))
    return context


def show(file: Path, *authorities: bytes) -> None:
    """Write what the other containers are to trust, in its place: what they have mounted is this very file, and not
    another one of its name (subPath). Ours comes first, so who reads meanwhile has it whole. Raises OSError."""
    content = b"".join(each.rstrip(b"\n") + b"\n" for each in authorities)
    if file.exists() and file.read_bytes() == content:
        return
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
