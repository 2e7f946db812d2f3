"""A relay with a server behind it and clients before it, on real sockets, in uvloop as it is meant to run."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from bounceback.proxy.relay import Handler, Relay
from bounceback.proxy.side import Budget
from bounceback.proxy.upstream import Fixed

PATIENCE = 60.0
"""Seconds after which something that must happen has not: long, for a machine that others keep busy."""
NAME = "way"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    return {"uvloop": uvloop.new_event_loop}


class End:
    """One end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.sock, data), PATIENCE)

    async def receive(self, most: int = 1 << 16) -> bytes:
        """b"" is the end of the stream. Raises ConnectionResetError."""
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, most), PATIENCE)

    async def exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            data = await self.receive(size - len(found))
            assert data, f"ended after {len(found)} of {size} bytes"
            found += data
        return found

    async def exactly_dropped(self, size: int) -> None:
        """For much of it, that nobody looks at."""
        while size > 0:
            data = await self.receive(1 << 20)
            assert data
            size -= len(data)

    async def all(self) -> bytes:
        found = bytearray()
        while data := await self.receive():
            found += data
        return bytes(found)

    async def is_silent(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 1), seconds)
        except TimeoutError:
            return True
        return False

    async def reset(self) -> bool:
        """Whether it ends with an RST."""
        try:
            while await self.receive():
                pass
        except ConnectionResetError:
            return True
        return False

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


@dataclass
class Way:
    """From clients through a relay to a server."""

    relay: Relay
    address: tuple[str, int]
    server: socket.socket
    ends: list[End] = field(default_factory=list)

    async def client(self) -> End:
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        end = End(sock)
        self.ends.append(end)
        sock.connect(self.address)  # at once, by the kernel alone: an RST that follows is found by reading
        sock.setblocking(False)
        return end

    async def accept(self) -> End:
        sock, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.server), PATIENCE)
        end = End(sock)
        self.ends.append(end)
        return end

    async def pair(self) -> tuple[End, End]:
        """The client's and the server's, with data having gone both ways."""
        client = await self.client()
        server = await self.accept()
        await client.send(b"?")
        assert await server.exactly(1) == b"?"
        await server.send(b"!")
        assert await client.exactly(1) == b"!"
        return client, server

    def hits(self, rule: str) -> int:
        return self.relay.counters()[rule].hits


Ways = Callable[..., Awaitable[Way]]


def listening(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.bind((host, 0))
    sock.listen(1024)
    return sock


@pytest.fixture
async def ways() -> AsyncIterator[Ways]:
    """Makes them, and closes all."""
    made: list[Way] = []

    async def make(host: str = "127.0.0.1", budget: Budget | None = None, handler: Handler | None = None) -> Way:
        server = listening(host)
        relay = Relay(budget)
        address = await relay.listen(NAME, host, 0, Fixed(host, server.getsockname()[1]), handler)
        made.append(way := Way(relay, address, server))
        return way

    yield make
    for way in made:
        await way.relay.drain(0)
        assert way.relay.open == 0
        for end in way.ends:
            end.close()
        way.server.close()


@pytest.fixture
async def way(ways: Ways) -> Way:
    return await ways()


async def until(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Fails when that has not come by then."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)
