"""Where a connection goes on to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from time import monotonic
from typing import Final, Protocol

from bounceback.proxy import original

Address = tuple[str, int]
REMEMBERED_SECONDS: Final = 1.0
"""How long the addresses of a host name are used before they are looked up again."""
CONNECT_SECONDS: Final = 60.0


class Upstream(Protocol):
    async def addresses(self, accepted: socket.socket | None) -> list[Address]:
        """Where this client goes on to, IP addresses, best first. Raises OSError."""

    @property
    def mark(self) -> int:
        """Of packets to there (SO_MARK); 0: none."""


class Fixed:
    """One host for everybody, by address or by name; names are looked up as connections come."""

    def __init__(self, host: str, port: int, mark: int = 0) -> None:
        self.host, self.port, self.mark = host, port, mark
        self._known: list[Address] = [(host, port)] if _is_address(host) else []
        self._until = 0.0 if not self._known else float("inf")
        self._looking: asyncio.Task[list[Address]] | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def addresses(self, accepted: socket.socket | None) -> list[Address]:
        if monotonic() >= self._until:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_up())
                self._looking.add_done_callback(self._looked_up)
            return await asyncio.shield(self._looking)
        return self._known

    async def _look_up(self) -> list[Address]:
        found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        self._known = list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found))
        self._until = monotonic() + REMEMBERED_SECONDS
        return self._known

    def _looked_up(self, task: asyncio.Task[list[Address]]) -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # whoever waits for it gets it, too


class Original:
    """Where the client wanted to go before nftables redirected it."""

    def __init__(self, mark: int) -> None:
        self.mark = mark

    def __str__(self) -> str:
        return "where they were going"

    async def addresses(self, accepted: socket.socket | None) -> list[Address]:
        if accepted is None:
            raise OSError("only connections have an original destination")
        return [original.destination(accepted)]


async def dial(upstream: Upstream, accepted: socket.socket | None) -> socket.socket:
    """A connected socket. Raises OSError of the last address tried, TimeoutError after CONNECT_SECONDS."""
    async with asyncio.timeout(CONNECT_SECONDS):
        *others, last = await upstream.addresses(accepted)
        for address in others:
            try:
                return await _connected(address, upstream.mark)
            except OSError:
                continue
        return await _connected(last, upstream.mark)


async def _connected(address: Address, mark: int) -> socket.socket:
    sock = open_socket(address, socket.SOCK_STREAM, mark)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def open_socket(address: Address, kind: socket.SocketKind, mark: int) -> socket.socket:
    """One that does not block, of the address's family, with the mark."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        original.mark(sock, mark)
    except OSError:
        sock.close()
        raise
    return sock


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
