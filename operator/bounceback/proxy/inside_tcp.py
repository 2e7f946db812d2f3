"""Rules for what flows in connections, inside a target's network."""

from __future__ import annotations

from typing import Final

from bounceback.proxy.relay import Handler, Relay
from bounceback.proxy.side import Budget
from bounceback.proxy.task import ANY, LOCAL, Json, Ports, Task, can_listen
from bounceback.proxy.upstream import Original
from bounceback.types.relay import rule_from

HELD: Final = (4 << 20, 32 << 20)
"""Bytes that are held for one connection and for all: the target's memory limit pays."""


class Connections:
    """Each goes on to where it was going; `handler` looks at it first."""

    def __init__(self, task: Task, handler: Handler | None = None) -> None:
        self._task = task
        self._handler = handler
        self._relay = Relay(Budget(*HELD))

    async def listen(self) -> Ports:
        upstream = Original(self._task.mark)
        return {side: await self._on(side, upstream) for side in self._task.sides}

    async def _on(self, side: str, upstream: Original) -> dict[str, int]:
        found = {}
        for family, host in (LOCAL if side == "out" else ANY).items():
            if can_listen(host):
                _, found[family] = await self._relay.listen(f"{side}-{family}", host, 0, upstream, self._handler)
        return found

    def follow(self, rules: list[Json]) -> None:
        self._relay.follow(rule_from(rule) for rule in rules)

    def seen(self) -> Json:
        return {"hits": sum(c.hits for c in self._relay.counters().values()), "open": self._relay.open}

    async def drain(self, seconds: float) -> int:
        return await self._relay.drain(seconds)
