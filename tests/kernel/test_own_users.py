"""Pods with users of their own (hostUsers: false, user_namespaces(7)): whom their API proxy takes for root."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path

from bounceback.types import peer

NEW_USERS = 0x10000000  # clone(2), CLONE_NEWUSER
FIRST = 100_000
_libc = ctypes.CDLL(None, use_errno=True)


def forked(work: Callable[[], int]) -> int:
    """A process that ends with what `work` returns."""
    if pid := os.fork():
        return pid
    code = 99
    try:
        code = work()
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def knocks(address: str) -> int:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        return 0 if client.recv(1) == b"y" else 1


def pod_proxy(address: str, ready: int, mapped: int, callers: int) -> int:
    """Root of users of its own: says to each that comes whether it is trusted; first to one of its own kind."""
    if _libc.unshare(NEW_USERS):
        return 98
    os.write(ready, b"u")
    os.read(mapped, 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sidecar = forked(lambda: knocks(address))
        for n in range(callers + 1):
            if n == 1:
                os.write(ready, b"l")
            connection, _ = listener.accept()
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.CREDENTIALS)
            connection.send(b"y" if peer.trusted(credentials, os.getuid()) else b"n")
            connection.close()
    return ended(sidecar)


def test_root_of_the_node_is_nobody_to_a_proxy_with_users_of_its_own_and_a_sidecar_is_root() -> None:
    address = f"\0bounceback-own-users-{os.getpid()}"
    ready, says_ready = os.pipe()
    is_mapped, says_mapped = os.pipe()
    proxy = forked(lambda: pod_proxy(address, says_ready, is_mapped, callers=1))
    assert os.read(ready, 1) == b"u"
    for kind in ("uid", "gid"):
        Path(f"/proc/{proxy}/{kind}_map").write_text(f"0 {FIRST} 65536")
    os.write(says_mapped, b"m")
    assert os.read(ready, 1) == b"l"
    assert knocks(address) == 1
    assert ended(proxy) == 0  # its sidecar was let in
