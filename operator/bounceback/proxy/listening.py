"""A port that connections come to; it can refuse them, as if nobody were there, and take them again."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 4096
AT_A_TIME: Final = 256
RECEIVED: Final = 8 << 20
"""Bytes of datagrams that may wait for us: what does not fit is lost, and no rule did it."""
PAUSE_SECONDS: Final = 0.1
"""How long nothing is accepted after the process ran out of descriptors."""
OUT_OF: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def bound(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A socket on that address, a name's first one; port 0: one that is free. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
    sock = _reusing(family, kind)
    try:
        sock.bind(address)
        if port == 0 and kind is socket.SOCK_STREAM:
            # The kernel keeps a port over the end of listening only for who asked for it by number.
            again = _reusing(family, kind)
            again.bind(sock.getsockname())
            sock.close()
            return again
    except OSError:
        sock.close()
        raise
    return sock


def first_address(host: str, port: int) -> str:
    """Where `bound` would listen. Raises OSError."""
    return str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4][0])


def _reusing(family: int, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    if kind is socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)  # as much of it as the machine allows
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


class Door:
    """Hands each connection that comes to `entered`."""

    def __init__(self, sock: socket.socket, entered: Callable[[socket.socket], None]) -> None:
        self._sock = sock
        self._entered = entered
        self._open = False
        self._pause: asyncio.TimerHandle | None = None
        self.open()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    def open(self) -> None:
        """Let connections in."""
        if not self._open:
            self._sock.listen(BACKLOG)
            self._watch()
            self._open = True

    def refuse(self) -> None:
        """Nobody listens any more; the port stays ours. Who was not let in yet gets an RST."""
        if self._open:
            self._unwatch()
            self._sock.shutdown(socket.SHUT_RD)  # tcp(7): a listening socket goes back to being bound only
            self._open = False

    def close(self) -> None:
        self._unwatch()
        self._open = False
        self._sock.close()

    def _watch(self) -> None:
        self._pause = None
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def _unwatch(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        elif self._open:
            asyncio.get_running_loop().remove_reader(self._sock)

    def _accept(self) -> None:
        for _ in range(AT_A_TIME):
            try:
                accepted, _ = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in OUT_OF:
                    raise
                self._unwatch()
                self._pause = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._watch)
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._entered(accepted)
            if not self._open:
                return
