"""Rules for names, inside a target's network."""

from __future__ import annotations

import socket
from typing import Final

from bounceback.proxy import original
from bounceback.proxy.dns import Resolver
from bounceback.proxy.task import LOCAL, Json, Ports, Task, can_listen, unnamed
from bounceback.proxy.upstream import Address
from bounceback.types.names import DnsRule

PORT: Final = 53


class TrueServer:
    """The server that a connection was for. A datagram does not say: it goes to the first of the target's resolvers."""

    def __init__(self, servers: tuple[str, ...], mark: int) -> None:
        self._servers = servers
        self.mark = mark

    async def addresses(self, accepted: socket.socket | None) -> list[Address]:
        if accepted is not None:
            return [original.destination(accepted)]
        if not self._servers:
            raise OSError("the target's resolv.conf names no server")
        return [(self._servers[0], PORT)]


class Names:
    def __init__(self, task: Task) -> None:
        self._resolver = Resolver(TrueServer(task.servers, task.mark))

    async def listen(self) -> Ports:
        return {"out": {kind: await self._resolver.listen(host) for kind, host in LOCAL.items() if can_listen(host)}}

    def follow(self, rules: list[Json]) -> None:
        self._resolver.put({rule["name"]: DnsRule.from_json(unnamed(rule)) for rule in rules})

    def seen(self) -> Json:
        return {"hits": sum(count.hits for count in self._resolver.counts().values()), "open": self._resolver.open}

    async def drain(self, seconds: float) -> int:
        return await self._resolver.drain(seconds)
