"""Rules for names, inside a target's network."""

from __future__ import annotations

import socket

from bounceback.proxy import original
from bounceback.proxy.dns import Address, Resolver
from bounceback.proxy.inside import LOCAL, Json, Ports, Task, can_listen
from bounceback.types.names import DnsRule

PORT = 53


class Names:
    """What is asked by UDP goes on to the first of the target's resolvers: the datagram does not say to which it went."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._resolver = Resolver(self._upstream, prepare=lambda sock: original.mark(sock, task.mark))

    async def listen(self) -> Ports:
        return {"out": {kind: await self._resolver.listen(host) for kind, host in LOCAL.items() if can_listen(host)}}

    def follow(self, rules: list[Json]) -> None:
        self._resolver.put({rule["name"]: DnsRule.from_json(_unnamed(rule)) for rule in rules})

    def seen(self) -> Json:
        return {"hits": sum(count.hits for count in self._resolver.counts().values()), "open": 0}

    async def drain(self, seconds: float) -> int:
        await self._resolver.close()
        return 0

    def _upstream(self, client: Address, connection: socket.socket | None) -> Address | None:
        if connection is not None:
            return original.destination(connection)
        return (self._task.servers[0], PORT) if self._task.servers else None


def _unnamed(rule: Json) -> Json:
    return {key: value for key, value in rule.items() if key != "name"}
