"""Clients, the API proxy, and a server behind it that says what the test wants: all of it on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bounceback.proxy.api.gate import Gate, Upstream
from bounceback.types.api_rule import ApiRule
from tests.relay.conftest import PATIENCE, End, listening

Json = dict[str, Any]
PODS = "/api/v1/namespaces/shop/pods"


@dataclass
class Answered:
    """What a client was told."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> Json:
        found = json.loads(self.body)
        assert found["kind"] == "Status"
        return dict(found)


@dataclass
class Line:
    gate: Gate
    address: tuple[str, int]
    server: socket.socket
    ends: list[End] = field(default_factory=list)

    async def client(self) -> End:
        sock = socket.socket()
        sock.connect(self.address)
        sock.setblocking(False)
        self.ends.append(end := End(sock))
        return end

    async def accept(self) -> End:
        sock, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.server), PATIENCE)
        self.ends.append(end := End(sock))
        return end

    async def asked(self, client: End, request: bytes) -> tuple[End, bytes]:
        """The server's end of a new connection, and what it was asked there."""
        await client.send(request)
        server = await self.accept()
        return server, await server.exactly(len(request))

    def rules(self, *rules: ApiRule) -> None:
        self.gate.follow(rules)

    def has_seen(self, name: str, count: int) -> bool:
        return self.gate.counts()[name].seen == count

    def hits(self, name: str) -> int:
        return self.gate.counts()[name].hits


async def made() -> tuple[Line, asyncio.Server]:
    server = listening("127.0.0.1")
    gate = Gate(Upstream("127.0.0.1", server.getsockname()[1], None))
    listener = await asyncio.get_running_loop().create_server(gate.connection, "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()
    return Line(gate, (address[0], address[1]), server), listener


def request(method: str = "GET", target: str = PODS, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: api", *headers]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(code: int = 200, body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} Fine", "Content-Type: application/json", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def told(client: End) -> Answered:
    """The next answer. Of what is chunked, all up to the last chunk."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += await client.exactly(1)
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        return Answered(int(first.split()[1]), headers, b"".join([part async for part in chunks(client)]))
    return Answered(int(first.split()[1]), headers, await client.exactly(int(headers.get("content-length", 0))))


async def chunk(client: End) -> bytes:
    """One of a chunked body; b"": the last."""
    size = b""
    while not size.endswith(b"\r\n"):
        size += await client.exactly(1)
    data = await client.exactly(int(size, 16) + 2)
    return data[:-2]


async def chunks(client: End) -> Any:
    while data := await chunk(client):
        yield data


WATCH_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(name: str, kind: str = "ADDED", version: int = 1) -> bytes:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": {"kind": "Pod", "metadata": metadata}}).encode() + b"\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def names(lines: bytes | Iterable[bytes]) -> list[str]:
    """Of the objects in events."""
    whole = lines if isinstance(lines, bytes) else b"".join(lines)
    return [json.loads(line)["object"]["metadata"]["name"] for line in whole.splitlines()]
